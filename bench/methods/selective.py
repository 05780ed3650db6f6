"""Methods that train a part of the model's own weights, all or none: leaves without new parameters."""

from torch import nn

from bench.models.structure import blocks, is_head, train_head_alone


def full(model: nn.Module) -> nn.Module:
    """Train every parameter."""
    return model.requires_grad_(requires_grad=True)


def none(model: nn.Module) -> nn.Module:
    """Train nothing."""
    return model.requires_grad_(requires_grad=False)


def head(model: nn.Module) -> nn.Module:
    """Train the task's head alone, over frozen features (a linear probe)."""
    return train_head_alone(model)


def top_k(model: nn.Module, *, layers: int) -> nn.Module:
    """Train the last `layers` transformer blocks and the head; all blocks where there are no more."""
    train_head_alone(model)
    for block in list(blocks(model))[-layers:]:
        block.requires_grad_(requires_grad=True)
    return model


def bitfit(model: nn.Module) -> nn.Module:
    """Train only the bias terms and the head (Ben Zaken et al., 2022, arXiv:2106.10199)."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith(".bias") or is_head(name, model)
    return model
