"""What the C library does with memory that a tensor gives back: keep it for the next one.

By default glibc returns large pieces to the system, which must clear every page anew at the next request. A step of
LoRA took 1.05 to 1.5 times as long that way (MiniLM, batches of 4 and 32, two cores, fp32).
"""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
KEPT = 2**30  # bytes: larger pieces still come from the system and go back to it


def keep_freed_memory() -> bool:
    """Let this process keep up to KEPT freed bytes; says whether the C library took the word (glibc alone does)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(option, KEPT) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))


def release_freed_memory() -> None:
    """Return what is kept to the system, where the C library can (glibc), so that what is resident is in use."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
