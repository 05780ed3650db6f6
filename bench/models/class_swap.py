"""Modules that get another way of doing what they do, and stay what they are: by name, by weights, on disk."""

from functools import cache

from torch import nn


def mix_in(module: nn.Module, way: type[nn.Module]) -> None:
    """Let the methods of a class go before the module's own."""
    module.__class__ = _mixed(way, type(module))  # type: ignore[arg-type]


@cache
def _mixed(way: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (way, kind), {})
