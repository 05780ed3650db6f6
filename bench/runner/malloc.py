"""Make the C library keep the memory of freed tensors for the next ones.

By default glibc returns large blocks to the system, which must clear every page again at the next request. A LoRA step
then took 1.05 to 1.5 times as long (MiniLM, batches of 4 and 32, two cores, fp32).
"""

import ctypes
import gc
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # values from malloc.h
KEPT = 2**30  # bytes; larger blocks still come from the system and return to it


def keep_freed_memory() -> bool:
    """Let this process keep up to `KEPT` freed bytes.

    Returns:
        Whether the C library accepted the setting. Only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(option, KEPT) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))


def free_unused_models() -> None:
    """Free the models that are no longer used, on the device too.

    A model and its hooks refer to each other, so it stays in memory until Python's collector runs.
    """
    gc.collect()


def release_freed_memory() -> None:
    """Give kept memory back to the system, so that resident memory is memory in use. Only glibc supports this."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
