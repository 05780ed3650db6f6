"""The parts of a model that methods speak of: the task's head, and the transformer blocks."""

from typing import Any

from torch import nn

from bench.models.architectures import Architecture, architecture_of


def architecture(model: nn.Module) -> Architecture:
    """How a model of this kind is built."""
    config: Any = model.config
    return architecture_of(config.model_type)


def heads(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that are new for the task: the classifier, and what else the checkpoint lacks.

    A BERT that was saved without its pooler gets a new one; `load_model` then notes it in `new_modules`.
    """
    return (*architecture(model).head, *getattr(model, "new_modules", ()))


def is_head(name: str, model: nn.Module) -> bool:
    """Whether a parameter's full name lies in the task's head, which is new and trained by every method."""
    return not set(heads(model)).isdisjoint(name.split("."))


def head_names(model: nn.Module) -> list[str]:
    """The names of the head's modules that the model has."""
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return [name for name in heads(model) if name in there]


def trained(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """What is trained, by name: the task's head, and the rest."""
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = {name: parameter for name, parameter in named.items() if is_head(name, model)}
    return head, {name: parameter for name, parameter in named.items() if name not in head}


def train_head_alone(model: nn.Module) -> nn.Module:
    """Freeze everything but the head: where most methods begin."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = is_head(name, model)
    return model


def blocks(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks, from the input to the output."""
    backbone: Any = model.base_model
    found: nn.ModuleList = backbone.get_submodule(architecture(model).blocks)
    return found


def plain_model(model: Any) -> nn.Module:
    """What PEFT has wrapped, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[no-any-return]


def trained_depth(model: nn.Module) -> float:
    """Share of the blocks from the first that is trained up to the last: below it, what is computed is everyone's."""
    base = plain_model(model)
    rest = {id(parameter) for parameter in trained(model)[1].values()}
    inside = [rest.intersection(map(id, block.parameters())) for block in blocks(base)]
    if rest.difference(*inside):
        return 1.0  # prompts, embeddings
    return next((1 - place / len(inside) for place, found in enumerate(inside) if found), 0.0)


def width(model: nn.Module) -> int:
    """Width of the residual stream."""
    config: Any = model.config
    return int(getattr(config, architecture(model).width))
