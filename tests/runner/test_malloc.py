"""Freed memory is kept for the next tensor in a worker that requests it."""

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
    """Return the number of page faults for 50 tensors of 32 MiB, allocated one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_kept_memory_avoids_page_faults() -> None:
    assert 4 * faults(KEEP) < faults("")
