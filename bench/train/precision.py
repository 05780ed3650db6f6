"""What the device is and which arithmetic it does fast."""

import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

NAMES = ("fp32", "bf16")
GAIN = 1.2  # of bf16 products over fp32: where it is less, the conversions eat it


def pick_device(wanted: str) -> torch.device:
    """Turn `auto` into the accelerator where there is one. ValueError: cuda is wanted and not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but PyTorch sees no CUDA device here; use device=cpu or device=auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def pick_dtype(wanted: str, device: torch.device, speeds: Mapping[str, float]) -> torch.dtype:
    """Turn `auto` into bf16 where the device computes it clearly faster, else fp32. ValueError: it has no bf16 at all.

    speeds: of products on a CPU, as measure/products.py finds them; an accelerator either has the instructions or not.
    """
    if wanted != "auto":
        if wanted == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ValueError(f"precision=bf16, but {torch.cuda.get_device_name(device)} has none; use precision=fp32")
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        best = {name: max((speeds[key] for key in speeds if key.endswith(name)), default=0.0) for name in NAMES}
        fast = best["bf16"] > GAIN * best["fp32"]
    return torch.bfloat16 if fast else torch.float32


def notes_on(wanted: str, device: torch.device, dtype: torch.dtype, *, gpu: bool) -> list[str]:
    """What a user would not expect of the device and the arithmetic; a line each.

    wanted: the device as it was asked for. gpu: whether the machine seems to have one.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name, bf16 = torch.cuda.get_device_name(device), dtype is torch.bfloat16
        how = "emulates bf16, which is slow: precision=fp32 may be faster" if bf16 else "has no bf16: trained in fp32"
        return [f"{name} {how}"]
    if device.type == "cpu" and wanted == "auto" and gpu:
        built = "its driver may be too old" if torch.version.cuda or torch.version.hip else "it is built for CPUs only"
        return [f"the machine has a GPU, but PyTorch {torch.__version__} cannot use it ({built}): trained on the CPU"]
    return []


def describe_device(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a record says about the machine: names, memory, driver, threads and the arithmetic that was used."""
    on_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else torch.cpu.get_capabilities().get("cpu_name")
    return {
        "device": device.type,
        "device_name": name or platform.processor() or platform.machine(),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory if on_cuda else None,
        "cuda": torch.version.cuda if on_cuda else None,
        "threads": torch.get_num_threads(),
        "dtype": "bf16" if dtype is torch.bfloat16 else "fp32",
    }


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """The forward pass in that arithmetic; weights stay in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
