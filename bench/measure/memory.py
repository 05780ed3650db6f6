"""Peak memory of this process, which runs one cell and nothing else, and what it is for."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.optim import Optimizer

from bench.train.batches import Batch
from bench.train.device import Compute
from bench.train.memory import kept_bytes, storages

FORGET_PEAK = "5"  # written to clear_refs: the peak is what is resident now (Linux, man 5 proc_pid_clear_refs)


def reset_peak(device: torch.device) -> None:
    """Begin a new peak, on the accelerator and of the process; the latter where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(FORGET_PEAK, encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def resident_bytes() -> int:
    """What the process holds in memory now, with what it shares with the server that it was forked from."""
    return int(psutil.Process().memory_info().rss)


def memory_split(model: nn.Module, optimizer: Optimizer, largest: Batch, compute: Compute) -> dict[str, int]:
    """Bytes of a training step by what they are for, computed from what there is: the same on every device.

    activations: what the forward pass over the largest batch, or the part of one that goes through the model at once,
    keeps for the backward pass. Temporary kernel workspace is not included.
    """
    weights = {address: size for tensor in _held(model) for address, size in storages(tensor).items()}
    state = [value for states in optimizer.state.values() for value in states.values() if torch.is_tensor(value)]
    return {
        "weights": sum(weights.values()),
        "gradients": sum(_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad),
        "optimizer": sum(map(_bytes, state)),
        "activations": kept_bytes(model, largest, compute),
    }


def _held(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def peak_bytes(device: torch.device) -> dict[str, int | None]:
    """Peaks since `reset_peak`: allocated and reserved on the accelerator (None on a CPU), resident of the process."""
    on_cuda = device.type == "cuda"
    kilobyte = 1 if sys.platform == "darwin" else 1024  # getrusage counts in bytes on macOS, in KiB on Linux
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device) if on_cuda else None,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte,
    }
