"""Simulates a machine with one GPU for torch's own Python code: only the C calls are replaced. Import it first.

As in torch, a process that has counted the devices or initialised CUDA cannot pass CUDA on to a forked process.
"""

import os
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # relies on what a torch without CUDA lacks, so it is imported before the patches
import torch._inductor.utils

from bench.config import accelerator

touched: list[str] = []  # the imports that touched CUDA in this process, innermost frame first
_forked_too_late = False


def _touch() -> None:
    frames = [frame for frame in traceback.extract_stack()[:-2] if "importlib" not in frame.filename]
    touched.append(" < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)))


def _count() -> int:
    _touch()
    return 1


def _after_fork() -> None:
    global _forked_too_late  # noqa: PLW0603
    _forked_too_late = bool(touched)
    touched.clear()


os.register_at_fork(after_in_child=_after_fork)
accelerator.NVIDIA = (sys.executable,)  # an existing file
c: Any = torch._C
for name in ("_cuda_getCurrentRawStream", "_cuda_synchronize", "_cuda_setDevice", "_cuda_getCurrentStream"):
    if not hasattr(c, name):
        setattr(c, name, lambda *_: 0)
c._cuda_getDeviceCount, c._cuda_init = _count, _touch
c._cuda_getDevice = c._cuda_exchangeDevice = c._cuda_maybeExchangeDevice = lambda *_: 0
cuda: Any = torch.cuda
torch.version.cuda = "12.8"
cuda._is_compiled = lambda: True
cuda._cudart = object()
cuda._is_in_bad_fork = lambda: _forked_too_late
cuda._get_device_properties = lambda _: SimpleNamespace(major=9, minor=0)
cuda._queued_calls.clear()  # these calls query more of the device than the stand-in provides
