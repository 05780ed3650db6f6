"""Several methods at once."""

from collections.abc import Callable, Sequence

from torch import nn


def attach(model: nn.Module, *, leaves: Sequence[Callable[[nn.Module], nn.Module]]) -> nn.Module:
    """Apply leaves one after another; what any of them trains is trained in the end."""
    trained: set[nn.Parameter] = set()
    for leaf in leaves:
        model = leaf(model)
        trained |= {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in model.parameters():
        parameter.requires_grad = parameter in trained
    return model
