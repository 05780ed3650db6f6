"""Find the parts of a model that methods refer to: the task's head and the transformer blocks."""

from typing import Any

from torch import nn

from bench.models.architectures import Architecture, architecture_of


def architecture(model: nn.Module) -> Architecture:
    """Return the description of the model's architecture."""
    config: Any = model.config
    return architecture_of(config.model_type)


def heads(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules that are new for the task.

    These are the classifier and the modules that the checkpoint lacks. For example, a BERT saved without its pooler
    gets a new one, and `load_model` lists it in `new_modules`.
    """
    return (*architecture(model).head, *getattr(model, "new_modules", ()))


def is_head(name: str, model: nn.Module) -> bool:
    """Return whether a parameter belongs to the task's head, which is new and trained by every method.

    Args:
        name: The parameter's full name.
        model: The model that has the parameter.
    """
    return not set(heads(model)).isdisjoint(name.split("."))


def head_names(model: nn.Module) -> list[str]:
    """Return the names of the head's modules that the model actually has."""
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return [name for name in heads(model) if name in present]


def trained(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Return the trained parameters by name: those of the task's head, and all others."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = {name: parameter for name, parameter in named.items() if is_head(name, model)}
    return head, {name: parameter for name, parameter in named.items() if name not in head}


def train_head_alone(model: nn.Module) -> nn.Module:
    """Freeze everything but the head, as most methods do first. Return the same model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = is_head(name, model)
    return model


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the transformer blocks, ordered from the input to the output."""
    backbone: Any = model.base_model
    module_list: nn.ModuleList = backbone.get_submodule(architecture(model).blocks)
    return module_list


def plain_model(model: Any) -> nn.Module:
    """Return the model inside a PEFT wrapper, or the model itself if it is not wrapped."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[no-any-return]


def trained_depth(model: nn.Module) -> float:
    """Return the share of the blocks that lie at or above the first trained one.

    All trials compute the same below that block.

    Returns:
        A share in 0..1: 1 if something outside the blocks and the head is trained, 0 if only the head is trained.
    """
    base = plain_model(model)
    rest = {id(parameter) for parameter in trained(model)[1].values()}
    by_block = [rest.intersection(map(id, block.parameters())) for block in blocks(base)]
    if rest.difference(*by_block):
        return 1.0  # prompts, embeddings
    return next((1 - index / len(by_block) for index, trained_ids in enumerate(by_block) if trained_ids), 0.0)


def width(model: nn.Module) -> int:
    """Return the width of the residual stream."""
    config: Any = model.config
    return int(getattr(config, architecture(model).width))
