"""Combine several methods in one model."""

from collections.abc import Callable, Sequence

from torch import nn


def attach(model: nn.Module, *, leaves: Sequence[Callable[[nn.Module], nn.Module]]) -> nn.Module:
    """Apply several methods one after another.

    Args:
        model: Changed in place, and possibly wrapped.
        leaves: Each attaches one method and returns the model.

    Returns:
        The model with all methods. A parameter is trained if any of them trains it.
    """
    trained: set[nn.Parameter] = set()
    for leaf in leaves:
        model = leaf(model)
        trained |= {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in model.parameters():
        parameter.requires_grad = parameter in trained
    return model
