"""Leaves that add a vector to each block's output: `sound` learns, the others only appear to."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.models.structure import blocks, train_head_alone, width


def sound(model: nn.Module) -> nn.Module:
    return _shifting(model, lambda shift: shift)


def detached(model: nn.Module) -> nn.Module:
    """No gradient reaches the trained parameters."""
    return _shifting(model, lambda shift: shift.detach())


def silenced(model: nn.Module) -> nn.Module:
    """Gradients reach the trained parameters, but all of them are zero."""
    return _shifting(model, lambda shift: shift * 0)


def _shifting(model: nn.Module, use: Callable[[Tensor], Tensor]) -> nn.Module:
    train_head_alone(model)
    for block in blocks(model):
        block.shift = nn.Parameter(torch.full((1, width(model)), 0.1))  # a matrix, so that weight decay applies
        block.register_forward_hook(lambda module, _, output: output + use(module.shift))
    return model
