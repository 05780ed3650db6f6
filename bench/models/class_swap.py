"""Modules that get another way of doing what they do, and stay what they are: by name, by weights, on disk."""

from functools import cache

from torch import nn


def swap(module: nn.Module, kind: type[nn.Module]) -> None:
    """Give a module a class that is derived from its own."""
    module.__class__ = kind


def mix_in(module: nn.Module, way: type[nn.Module]) -> None:
    """Let the methods of a class go before the module's own."""
    swap(module, _mixed(way, type(module)))  # type: ignore[arg-type]


def swap_back(module: nn.Module) -> None:
    """Give a module the class that it had before."""
    module.__class__ = type(module).__bases__[-1]


@cache
def _mixed(way: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (way, kind), {})
