"""Choose the device and the arithmetic, and describe them."""

import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """Where a model runs, and the arithmetic of its forward pass. Its weights stay in fp32.

    Attributes:
        device: The device of the model and of its inputs.
        dtype: float32 or bfloat16.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which a forward pass is computed in this arithmetic."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def pick_device(wanted: str) -> torch.device:
    """Return the device for a setting.

    Args:
        wanted: `cpu`, `cuda`, or `auto` for CUDA if there is a CUDA device.

    Raises:
        ValueError: `cuda` is requested, but there is no CUDA device.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but PyTorch sees no CUDA device here; use device=cpu or device=auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return torch's type for a precision.

    Args:
        precision: `fp32` or `bf16`.
        device: Where it will be used.

    Raises:
        ValueError: bf16 is requested, but the device does not support it at all.
    """
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(
            f"precision=bf16, but {torch.cuda.get_device_name(device)} does not support it; use precision=fp32"
        )
    return DTYPES[precision]


def check_rule(assumed: str, device: torch.device) -> None:
    """Check that `precision=auto` means the same on this device as the command line assumed.

    The command line names the cell before torch is imported. It relies on what the system reports about its GPU
    (bench/cells/arithmetic.py).

    Args:
        assumed: The precision in the cell's name, fp32 or bf16.
        device: Where torch will compute.

    Raises:
        ValueError: The device computes in another precision.
    """
    on_cuda = device.type == "cuda"
    actual = "bf16" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if actual == assumed:
        return
    if not on_cuda:
        reason = f"PyTorch {torch.__version__} cannot use the machine's GPU ({_why_unusable()}); use device=cpu"
    elif actual == "fp32":
        reason = f"{torch.cuda.get_device_name(device)} does not support it; use precision=fp32"
    else:
        reason = (
            f"PyTorch computes on {torch.cuda.get_device_name(device)}, which no device file shows; use precision=bf16"
        )
    raise ValueError(f"precision=auto was taken to mean {assumed}, but {reason}")


def _why_unusable() -> str:
    """The likely reason why torch does not see a GPU that the machine has."""
    return "its driver may be too old" if torch.version.cuda or torch.version.hip else "it is built for CPUs only"


def exact_products() -> None:
    """Make fp32 products exact, regardless of the machine's environment.

    NVIDIA's containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE. With it, fp32 products round their inputs to 10 bits.
    """
    torch.set_float32_matmul_precision("highest")


def notes_on(wanted: str, compute: Compute, *, gpu: bool) -> list[str]:
    """Return notes about the device and the arithmetic that a user may not expect, one line each.

    Args:
        wanted: The requested device.
        compute: The device and the arithmetic in use.
        gpu: Whether the machine seems to have a GPU.
    """
    device = compute.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name, bf16 = torch.cuda.get_device_name(device), compute.dtype is torch.bfloat16
        note = "emulates bf16, which is slow: precision=fp32 may be faster" if bf16 else "has no bf16: trained in fp32"
        return [f"{name} {note}"]
    if device.type == "cpu" and wanted == "auto" and gpu:
        version, reason = torch.__version__, _why_unusable()
        return [f"the machine has a GPU, but PyTorch {version} cannot use it ({reason}): trained on the CPU"]
    return []


def describe_device(compute: Compute) -> dict[str, Any]:
    """Return what a record stores about the machine: names, memory, CUDA version, threads, and the arithmetic used."""
    device = compute.device
    on_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else torch.cpu.get_capabilities().get("cpu_name")
    return {
        "device": device.type,
        "device_name": name or platform.processor() or platform.machine(),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory if on_cuda else None,
        "cuda": torch.version.cuda if on_cuda else None,
        "threads": torch.get_num_threads(),
        "dtype": "bf16" if compute.dtype is torch.bfloat16 else "fp32",
    }
