"""Change how a module computes by swapping its class. Its name, weights and saved form stay the same."""

from functools import cache

from torch import nn


def swap(module: nn.Module, kind: type[nn.Module]) -> None:
    """Set a module's class to a subclass of its current one."""
    module.__class__ = kind


def mix_in(module: nn.Module, way: type[nn.Module]) -> None:
    """Let the methods of a class override the module's own.

    Args:
        module: Changed in place.
        way: The class with the methods. It comes first in the method resolution order.
    """
    swap(module, _mixed(way, type(module)))  # type: ignore[arg-type]


def swap_back(module: nn.Module) -> None:
    """Restore the class that a module had before `swap` or `mix_in`."""
    module.__class__ = type(module).__bases__[-1]


@cache
def _mixed(way: type[nn.Module], original: type[nn.Module]) -> type[nn.Module]:
    return type(original.__name__, (way, original), {})
