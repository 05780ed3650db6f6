"""Faster ways to the same numbers, each a setting, chosen once per cell and told in its records."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
from torch import nn

from bench.models.first import read_all, read_first
from bench.models.linear import FrozenLinear, lay_out

SHARE = 0.25  # of the free memory that weights laid out anew may take
GAIN = 1.15  # of a product, or the detour through Python costs more than it brings where batches are small


@dataclass(frozen=True)
class Fast:
    """linear: torch or onednn, for products with frozen matrices. last_layer: all positions, or those that are read."""

    linear: str
    last_layer: str

    def told(self) -> dict[str, Any]:
        """What a record says of it."""
        return asdict(self)


def pick_fast(conf: dict[str, Any], device: torch.device, dtype: torch.dtype, speeds: Mapping[str, float]) -> Fast:
    """Turn `auto` into what the speeds of products say (measure/products.py)."""
    linear, name = conf["linear"], "bf16" if dtype is torch.bfloat16 else "fp32"
    if device.type != "cpu":
        linear = "torch"
    elif linear == "auto":
        gains = speeds.get(f"onednn {name}", 0.0) > GAIN * speeds.get(f"torch {name}", 0.0)
        linear = "onednn" if gains else "torch"
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
