"""What GPU the machine has, found without torch: asking torch could initialise CUDA, and importing it takes seconds."""

import ast
import ctypes
import os
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path

# A false alarm costs each worker two seconds of imports; a GPU that is overlooked stops every run on it.
NVIDIA = ("/dev/nvidia*", "/proc/driver/nvidia/gpus/*", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/dxg")  # and Jetson, WSL
ROCM = ("/dev/kfd",)
HIDDEN = {"", "-1", "NoDevFiles"}  # values of CUDA_VISIBLE_DEVICES that hide every GPU
BF16_CAPABILITY = 8  # NVIDIA's compute capability from which on there are bf16 instructions: Ampere


def gpu_visible() -> bool:
    """Whether a library that looks for a GPU might find one."""
    if any(map(glob, ROCM)):
        return True
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() not in HIDDEN and any(map(glob, NVIDIA))


def gpu_usable() -> bool:
    """Whether there seems to be a GPU, and the installed torch is built for one. Its driver may still be too old."""
    return gpu_visible() and _built_for_gpus()


def lacks_bf16() -> bool:
    """Whether the first visible GPU is known to have no bf16 instructions."""
    major = None if any(map(glob, ROCM)) else _capability(os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    return major is not None and major < BF16_CAPABILITY


def _built_for_gpus() -> bool:
    """Read from torch's own version file; True where that does not tell."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        lines = ast.parse(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")).body
    except (OSError, SyntaxError):
        return True
    named = {
        line.target.id: line.value.value
        for line in lines
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(line.value, ast.Constant)
    }
    return any(named.get(name, "unknown") for name in ("cuda", "hip"))


@cache
def _capability(visible: str) -> int | None:
    """The major compute capability of the first visible NVIDIA GPU; None where its driver does not tell.

    Asked of NVML, the library behind nvidia-smi, which initialises no CUDA.
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
