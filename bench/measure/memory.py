"""Measure the peak memory of this process, which runs only one cell, and what a training step uses memory for."""

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

FORGET_PEAK = "5"  # written to clear_refs, it resets the peak to the current size (Linux, man 5 proc_pid_clear_refs)


def reset_peak(device: torch.device) -> None:
    """Reset the peak memory of the accelerator and of the process. The process's peak is reset only on Linux.

    Args:
        device: The device on which the cell is computed.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(FORGET_PEAK, encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def resident_bytes() -> int:
    """Return the resident memory of the process in bytes, with pages shared with the server that forked it."""
    return int(psutil.Process().memory_info().rss)


def memory_split(model: nn.Module, optimizer: Optimizer, largest: Batch, compute: Compute) -> dict[str, int]:
    """Compute the memory of a training step by purpose. It is computed from the tensors and alike on every device.

    Args:
        model: The model with its method attached.
        optimizer: The optimizer whose state is counted.
        largest: The largest batch, or the part of it that goes through the model at once.
        compute: Device and precision.

    Returns:
        Bytes of the `weights`, `gradients`, `optimizer` state and `activations`. Activations are the tensors that the
        forward pass over the largest batch keeps for the backward pass. Temporary kernel workspace is not included.
    """
    weights = {address: size for tensor in _tensors(model) for address, size in storages(tensor).items()}
    state = [value for states in optimizer.state.values() for value in states.values() if torch.is_tensor(value)]
    return {
        "weights": sum(weights.values()),
        "gradients": sum(_bytes(parameter) for parameter in model.parameters() if parameter.requires_grad),
        "optimizer": sum(map(_bytes, state)),
        "activations": kept_bytes(model, largest, compute),
    }


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def peak_bytes(device: torch.device) -> dict[str, int | None]:
    """Return the peaks since `reset_peak`, in bytes.

    Args:
        device: The device on which the cell is computed.

    Returns:
        The memory that was allocated and reserved on the accelerator, each None on a CPU, and the resident memory of
        the process.
    """
    on_cuda = device.type == "cuda"
    kilobyte = 1 if sys.platform == "darwin" else 1024  # getrusage counts in bytes on macOS, in KiB on Linux
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device) if on_cuda else None,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte,
    }
