"""What the device is, and which arithmetic is done on it."""

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
        device: Of the model and of what it is given.
        dtype: float32 or bfloat16.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which a forward pass is computed in the arithmetic."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)


def pick_device(wanted: str) -> torch.device:
    """Turn `auto` into the accelerator where there is one. ValueError: cuda is wanted and not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but PyTorch sees no CUDA device here; use device=cpu or device=auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Torch's type for fp32 or bf16. ValueError: the device has no bf16 at all."""
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"precision=bf16, but {torch.cuda.get_device_name(device)} has none; use precision=fp32")
    return DTYPES[precision]


def check_rule(assumed: str, device: torch.device) -> None:
    """See that `precision=auto` means on this device what the command line took it to mean.

    It names the cell before torch is imported, from what the system says of its GPU (bench/cells/arithmetic.py).

    Args:
        assumed: what the cell is named by, fp32 or bf16.
        device: where torch will compute.

    Raises:
        ValueError: The device computes otherwise.
    """
    on_cuda = device.type == "cuda"
    here = "bf16" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if here == assumed:
        return
    if not on_cuda:
        why = f"PyTorch {torch.__version__} cannot use the machine's GPU ({_unusable()}); use device=cpu"
    elif here == "fp32":
        why = f"{torch.cuda.get_device_name(device)} has none; use precision=fp32"
    else:
        why = (
            f"PyTorch computes on {torch.cuda.get_device_name(device)}, which no device file shows; use precision=bf16"
        )
    raise ValueError(f"precision=auto was taken to mean {assumed}, but {why}")


def _unusable() -> str:
    """Why torch may not see a GPU that is there."""
    return "its driver may be too old" if torch.version.cuda or torch.version.hip else "it is built for CPUs only"


def exact_products() -> None:
    """Let fp32 be fp32, whatever the machine's environment says.

    NVIDIA's containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, under which fp32 products round their inputs to 10 bits.
    """
    torch.set_float32_matmul_precision("highest")


def notes_on(wanted: str, compute: Compute, *, gpu: bool) -> list[str]:
    """What a user would not expect of the device and the arithmetic; a line each.

    wanted: the device as it was asked for. gpu: whether the machine seems to have one.
    """
    device = compute.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name, bf16 = torch.cuda.get_device_name(device), compute.dtype is torch.bfloat16
        how = "emulates bf16, which is slow: precision=fp32 may be faster" if bf16 else "has no bf16: trained in fp32"
        return [f"{name} {how}"]
    if device.type == "cpu" and wanted == "auto" and gpu:
        return [
            f"the machine has a GPU, but PyTorch {torch.__version__} cannot use it ({_unusable()}): trained on the CPU"
        ]
    return []


def describe_device(compute: Compute) -> dict[str, Any]:
    """What a record says about the machine: names, memory, driver, threads and the arithmetic that was used."""
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
