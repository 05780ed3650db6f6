"""Faster ways to the same numbers, each a setting, chosen once per cell and told in its records."""

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

BUCKET = 32  # tokens: compiled blocks are made for few lengths, and batches are padded to these
MODES = {"default": "default", "cudagraphs": "reduce-overhead"}  # torch.compile's words
COMPILER = "inductor"
SHARE = 0.25  # of the machine's memory that weights laid out anew may take
# Of CPUs on which oneDNN multiplies much faster than the library that torch uses, Intel's MKL: on two cores of an EPYC
# fp32 at 430 against 210 GFLOP/s. On a Xeon MKL is at the peak in fp32, and bf16 is no faster through oneDNN.
ONEDNN_VENDORS = {"AuthenticAMD"}


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


def pick_fast(conf: FastConf, device: torch.device, dtype: torch.dtype, weights: int) -> Fast:
    """Turn `auto` into oneDNN on an AMD CPU and torch elsewhere: a rule, so that the same machine always does the same.

    Args:
        conf: the `fast` node of a configuration.
        device: where the cell is computed.
        dtype: of its forward pass.
        weights: how many numbers the linear layers hold; two copies of them are laid out anew where memory allows.
    """
    linear = conf.linear.value
    if device.type != "cpu":
        linear = "torch"
    elif linear == "auto":
        fits = 2 * dtype.itemsize * weights < SHARE * psutil.virtual_memory().total
        there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        linear = "onednn" if there and fits and cpu_vendor() in ONEDNN_VENDORS else "torch"
    return Fast(linear, conf.last_layer.value, conf.compile.value, conf.attention.value)


@cache
def cpu_vendor() -> str:
    """Who made the CPU, in its own words: AuthenticAMD, GenuineIntel. Empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # Windows says it at the end: AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD
        return platform.processor().rpartition(" ")[2]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def quicken(model: nn.Module, fast: Fast) -> nn.Module:
    """Switch a prepared model over. Its weights and what it computes stay the same."""
    if fast.linear == "onednn":
        lay_out(model)
    if fast.last_layer == "read":
        compute_first_token(model)
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


def undo_speedups(model: nn.Module) -> nn.Module:
    """Switch it back, for whoever changes frozen weights: a merge does."""
    for module in model.modules():
        if type(module) is FrozenLinear:
            del module.layouts, module.source
            swap_back(module)
        module._compiled_call_impl = None  # noqa: SLF001 - what `compile` has set
    compute_all_tokens(model)
    return model
