"""Peak memory of this process, which runs one cell and nothing else.

The CUDA figures have not been read on a GPU yet.
"""

import resource
import sys

import torch


def reset_peak(device: torch.device) -> None:
    """Begin a new peak on the accelerator."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> dict[str, int | None]:
    """Peaks so far: allocated and reserved on the accelerator (None on a CPU), resident of the process."""
    on_cuda = device.type == "cuda"
    kilobyte = 1 if sys.platform == "darwin" else 1024  # getrusage counts in bytes on macOS, in KiB on Linux
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device) if on_cuda else None,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte,
    }
