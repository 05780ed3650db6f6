"""Freed memory is kept for the next tensor, in the worker that asks for it."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
{first}
def again():
    return torch.empty(2**23).fill_(1.0)
again()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    again()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from bench.runner.malloc import keep_freed_memory\nassert keep_freed_memory()"


def faults(first: str) -> int:
    """Pages that had to be fetched from the system for 50 tensors of 32 MiB, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_memory_is_not_fetched_anew() -> None:
    assert 4 * faults(KEEP) < faults("")
