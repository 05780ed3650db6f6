"""Methods without new parameters: they train some, all or none of the model's own weights."""

from torch import nn

from bench.models.structure import blocks, is_head, train_head_alone


def full(model: nn.Module) -> nn.Module:
    """Train every parameter. Return the same model."""
    return model.requires_grad_(requires_grad=True)


def none(model: nn.Module) -> nn.Module:
    """Train nothing. Return the same model."""
    return model.requires_grad_(requires_grad=False)


def head(model: nn.Module) -> nn.Module:
    """Train only the task's head, on frozen features (a linear probe). Return the same model."""
    return train_head_alone(model)


def top_k(model: nn.Module, *, layers: int) -> nn.Module:
    """Train the last transformer blocks and the head.

    Args:
        model: Changed in place.
        layers: How many blocks to train. All blocks are trained if the model has no more.

    Returns:
        The same model.
    """
    train_head_alone(model)
    for block in list(blocks(model))[-layers:]:
        block.requires_grad_(requires_grad=True)
    return model


def bitfit(model: nn.Module) -> nn.Module:
    """Train only the bias terms and the head (Ben Zaken et al., 2022, arXiv:2106.10199). Return the same model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith(".bias") or is_head(name, model)
    return model
