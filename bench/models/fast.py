"""Faster ways to the same numbers, each a setting, chosen once per cell and told in its records."""

from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
from torch import nn

from bench.models.first import read_all, read_first
from bench.models.linear import FrozenLinear, lay_out, onednn_is_faster

SHARE = 0.25  # of the free memory that weights laid out anew may take


@dataclass(frozen=True)
class Fast:
    """linear: torch or onednn, for products with frozen matrices. last_layer: all positions, or those that are read."""

    linear: str
    last_layer: str

    def told(self) -> dict[str, Any]:
        """What a record says of it."""
        return asdict(self)


def pick_fast(conf: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Fast:
    """Turn `auto` into what a product of a few milliseconds shows to be faster here."""
    linear = conf["linear"]
    if device.type != "cpu":
        linear = "torch"
    elif linear == "auto":
        linear = "onednn" if onednn_is_faster(dtype) else "torch"
    return Fast(linear, conf["last_layer"])


def quicken(model: nn.Module, fast: Fast) -> nn.Module:
    """Switch a prepared model over. Its weights and what it computes stay the same."""
    numbers = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    if fast.linear == "onednn" and 2 * 4 * numbers < SHARE * psutil.virtual_memory().available:
        lay_out(model)
    if fast.last_layer == "read":
        read_first(model)
    return model


def plain(model: nn.Module) -> nn.Module:
    """Switch it back, for whoever changes frozen weights: a merge does."""
    for module in model.modules():
        if type(module) is FrozenLinear:
            del module.layouts, module.source
            module.__class__ = nn.Linear  # type: ignore[assignment]
    read_all(model)
    return model
