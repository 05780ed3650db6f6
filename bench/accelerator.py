"""Whether the machine has a GPU, found without torch: asking torch could initialise CUDA."""

import os
from glob import glob

# A false alarm costs each worker two seconds of imports; a GPU that is overlooked stops every run on it.
NVIDIA = ("/dev/nvidia*", "/proc/driver/nvidia/gpus/*", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/dxg")  # and Jetson, WSL
ROCM = ("/dev/kfd",)
HIDDEN = {"", "-1", "NoDevFiles"}  # values of CUDA_VISIBLE_DEVICES that hide every GPU


def gpu_visible() -> bool:
    """Whether a library that looks for a GPU might find one."""
    if any(map(glob, ROCM)):
        return True
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() not in HIDDEN and any(map(glob, NVIDIA))
