"""Detect the machine's GPU without torch, which takes seconds to import and could initialise CUDA."""

import ast
import ctypes
import os
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path

# A false positive costs each worker two seconds of imports. A false negative stops every run on that GPU.
NVIDIA = ("/dev/nvidia*", "/proc/driver/nvidia/gpus/*", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/dxg")  # and Jetson, WSL
ROCM = ("/dev/kfd",)
HIDDEN = {"", "-1", "NoDevFiles"}  # values of CUDA_VISIBLE_DEVICES that hide every GPU
BF16_CAPABILITY = 8  # the first major NVIDIA compute capability with bf16 instructions: Ampere


def gpu_visible() -> bool:
    """Return whether a library that looks for a GPU might find one."""
    if any(map(glob, ROCM)):
        return True
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() not in HIDDEN and any(map(glob, NVIDIA))


def gpu_usable() -> bool:
    """Return whether a GPU seems to be present and the installed torch is built for GPUs.

    The driver may still be too old.
    """
    return gpu_visible() and _built_for_gpus()


def lacks_bf16() -> bool:
    """Return whether the first visible GPU is known to have no bf16 instructions."""
    major = None if any(map(glob, ROCM)) else _capability(os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    return major is not None and major < BF16_CAPABILITY


def _built_for_gpus() -> bool:
    """Return whether torch's version file names CUDA or HIP.

    Returns:
        True if the file cannot be read or does not say. False if torch is not installed.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        statements = ast.parse(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")).body
    except (OSError, SyntaxError):
        return True
    constants = {
        statement.target.id: statement.value.value
        for statement in statements
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(statement.value, ast.Constant)
    }
    return any(constants.get(name, "unknown") for name in ("cuda", "hip"))


@cache
def _capability(visible: str) -> int | None:
    """Return the major compute capability of the first visible NVIDIA GPU, or None if it is unknown.

    NVML, the library behind nvidia-smi, reports it without initialising CUDA.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    if nvml.nvmlInit_v2():
        return None
    try:
        first = visible.partition(",")[0].strip()
        if first.isdecimal():
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(int(first), ctypes.byref(handle))
        else:
            failed = nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(handle))
        failed = failed or nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
        return None if failed else major.value
    finally:
        nvml.nvmlShutdown()
