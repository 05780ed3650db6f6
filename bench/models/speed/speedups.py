"""Faster ways to compute the same numbers. Each is a setting, chosen once per cell and kept in its records."""

import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from bench.config.schema import FastConf
from bench.models.class_swap import swap_back
from bench.models.speed.last_block import compute_all_tokens, compute_first_token
from bench.models.speed.onednn_linear import FrozenLinear, lay_out
from bench.models.structure import blocks, plain_model

BUCKET = 32  # tokens; blocks are compiled for multiples of this length, and batches are padded to them
MODES = {"default": "default", "cudagraphs": "reduce-overhead"}  # torch.compile's names
COMPILER = "inductor"
SHARE = 0.25  # largest share of the machine's memory for copies of the weights in oneDNN's layout
# Vendors of CPUs on which oneDNN multiplies much faster than Intel's MKL, which torch uses: 430 against 210 GFLOP/s in
# fp32 on two cores of an EPYC. On a Xeon, MKL reaches the peak in fp32, and oneDNN is no faster in bf16.
ONEDNN_VENDORS = {"AuthenticAMD"}


@dataclass(frozen=True)
class Fast:
    """The speedups of a cell.

    Attributes:
        linear: The library for products with frozen matrices: torch or onednn.
        last_layer: The positions at which the last block is computed: all, or only those that are read.
        compile: How the blocks of a trial that trains alone are compiled: none, default or cudagraphs.
        attention: The attention implementation: own, or the name of one in transformers.
    """

    linear: str
    last_layer: str
    compile: str = "none"
    attention: str = "own"

    @property
    def multiple(self) -> int:
        """The number of tokens whose multiples batches are padded to."""
        return 1 if self.compile == "none" else BUCKET

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as they go into a record."""
        return asdict(self)


def pick_fast(conf: FastConf, device: torch.device, dtype: torch.dtype, weights: int) -> Fast:
    """Choose the speedups of a cell.

    `auto` becomes oneDNN on an AMD CPU and torch elsewhere. This is a fixed rule and not a measurement, so the same
    machine always chooses the same.

    Args:
        conf: The `fast` node of a configuration.
        device: The device on which the cell is computed.
        dtype: The dtype of its forward pass.
        weights: How many numbers the linear layers hold. oneDNN needs memory for two copies of them.
    """
    linear = conf.linear.value
    if device.type != "cpu":
        linear = "torch"
    elif linear == "auto":
        fits = 2 * dtype.itemsize * weights < SHARE * psutil.virtual_memory().total
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        linear = "onednn" if available and fits and cpu_vendor() in ONEDNN_VENDORS else "torch"
    return Fast(linear, conf.last_layer.value, conf.compile.value, conf.attention.value)


@cache
def cpu_vendor() -> str:
    """Return the CPU's vendor id, such as AuthenticAMD or GenuineIntel. Empty if the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # on Windows it is the last word: AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD
        return platform.processor().rpartition(" ")[2]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def quicken(model: nn.Module, fast: Fast) -> nn.Module:
    """Apply the speedups to a model. Its weights and its outputs stay the same.

    Args:
        model: A model with its method attached. Changed in place.
        fast: The speedups to apply.

    Returns:
        The same model.
    """
    if fast.linear == "onednn":
        lay_out(model)
    if fast.last_layer == "read":
        compute_first_token(model)
    if fast.compile != "none":
        compile_blocks(model, fast.compile)
    return model


def compile_blocks(model: nn.Module, how: str) -> None:
    """Compile each block separately. Blocks are alike, so most of them reuse code that is already compiled.

    On an H100 the losses were those of uncompiled blocks within 7e-7 (results/perf/gpu-h100.md).

    Args:
        model: Changed in place.
        how: A key of MODES.
    """
    torch._dynamo.config.recompile_limit = 1024  # noqa: SLF001 - one per length and kind of block
    torch._dynamo.config.accumulated_recompile_limit = 4096  # noqa: SLF001
    for block in blocks(plain_model(model)):
        block.compile(mode=MODES[how], dynamic=False, backend=COMPILER)
    if how == "cudagraphs":
        model.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())  # type: ignore[no-untyped-call]


def undo_speedups(model: nn.Module) -> nn.Module:
    """Undo `quicken`. Do this before frozen weights are changed, for example by a merge. Return the same model."""
    for module in model.modules():
        if type(module) is FrozenLinear:
            del module.layouts, module.source
            swap_back(module)
        module._compiled_call_impl = None  # noqa: SLF001 - set by `compile`
    compute_all_tokens(model)
    return model
