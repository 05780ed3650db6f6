"""Faster ways to the same numbers, each a setting, chosen once per cell and told in its records."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch
from torch import nn

from bench.models.first import read_all, read_first
from bench.models.linear import FrozenLinear, lay_out
from bench.models.parts import blocks, plain_model

BUCKET = 32  # tokens: compiled blocks are made for few lengths, and batches are padded to these
MODES = {"default": "default", "cudagraphs": "reduce-overhead"}  # torch.compile's words
COMPILER = "inductor"
SHARE = 0.25  # of the free memory that weights laid out anew may take
GAIN = 1.15  # of a product, or the detour through Python costs more than it brings where batches are small


@dataclass(frozen=True)
class Fast:
    """linear: torch or onednn, for products with frozen matrices. last_layer: all positions, or those that are read.
    compile: how the blocks of a trial that trains alone are compiled. attention: own, or transformers' name of one.
    """

    linear: str
    last_layer: str
    compile: str = "none"
    attention: str = "own"

    @property
    def multiple(self) -> int:
        """What the lengths of batches are padded to a multiple of."""
        return 1 if self.compile == "none" else BUCKET

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
    return Fast(linear, conf["last_layer"], conf["compile"], conf["attention"])


def quicken(model: nn.Module, fast: Fast) -> nn.Module:
    """Switch a prepared model over. Its weights and what it computes stay the same."""
    numbers = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    if fast.linear == "onednn" and 2 * 4 * numbers < SHARE * psutil.virtual_memory().available:
        lay_out(model)
    if fast.last_layer == "read":
        read_first(model)
    if fast.compile != "none":
        compile_blocks(model, fast.compile)
    return model


def compile_blocks(model: nn.Module, how: str) -> None:
    """Compile each block by itself: blocks are alike, so most of them find their code made already.

    Has not been run on a GPU yet; CUDA graphs have not been run at all.
    """
    torch._dynamo.config.recompile_limit = 1024  # noqa: SLF001 - one per length and kind of block
    torch._dynamo.config.accumulated_recompile_limit = 4096  # noqa: SLF001
    for block in blocks(plain_model(model)):
        block.compile(mode=MODES[how], dynamic=False, backend=COMPILER)
    if how == "cudagraphs":
        model.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())  # type: ignore[no-untyped-call]


def plain(model: nn.Module) -> nn.Module:
    """Switch it back, for whoever changes frozen weights: a merge does."""
    for module in model.modules():
        if type(module) is FrozenLinear:
            del module.layouts, module.source
            module.__class__ = nn.Linear  # type: ignore[assignment]
        module._compiled_call_impl = None  # noqa: SLF001 - what `compile` has set
    read_all(model)
    return model
