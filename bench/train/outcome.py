"""How a trial can end other than well, and what its record says about it."""

import gc
import re
import traceback

import torch

# What torch and the libraries under it say when memory runs out. cuBLAS, cuSPARSE, cuSOLVER, cuFFT and cuDNN, and AMD's
# of the same kind, each have a status of their own.
OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP|MPS|XPU)( driver)?( error:| backend)? out of memory"
    r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
    r"|_ALLOC(ATION)?_FAILED|StatusAllocFailed|status_memory_error"
    r"|can't allocate memory|not enough memory: you tried|Cannot allocate memory|std::bad_alloc"
)


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """The loss or the gradient is no longer a number."""


class Unsound(RuntimeError):  # noqa: N818 - a judgement on the trial
    """The trial did not do what its method says; it is recorded as failed."""


def is_oom(error: BaseException) -> bool:
    """Whether an error, or the one that caused it, means that memory ran out on the accelerator or on the CPU."""
    return any(
        isinstance(one, (torch.OutOfMemoryError, MemoryError))
        or (isinstance(one, (RuntimeError, OSError)) and OUT_OF_MEMORY.search(str(one)) is not None)
        for one in _linked(error, "__cause__")
    )


def release(error: BaseException) -> None:
    """Free the memory that a failed attempt holds: the frames of its traceback keep every tensor that they used.

    Call this before trying again with less, or the second attempt has less memory than the first one had.
    """
    for one in _linked(error, "__cause__", "__context__"):
        traceback.clear_frames(one.__traceback__)
    gc.collect()  # modules and their hooks refer to each other
    torch.cuda.empty_cache()  # does nothing where CUDA is not in use


def _linked(error: BaseException, *links: str) -> list[BaseException]:
    """The error and those behind it."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in found):
            found.append(one)
            waiting += [getattr(one, link) for link in links]
    return found


def describe(error: Exception) -> tuple[str, dict[str, str]]:
    """The outcome that an exception means, and what the record says about it."""
    outcome = "diverged" if isinstance(error, Diverged) else "oom" if is_oom(error) else "failed"
    trace = "".join(traceback.format_exception(error))
    return outcome, {"type": type(error).__name__, "message": str(error), "traceback": trace}


def failure(error: Exception, what: str, before: dict[str, str] | None = None) -> dict[str, str]:
    """What the record of a trial that has its scores says about something else that was asked for and failed.

    Args:
        error: How it failed.
        what: What was asked for, as its setting.
        before: What the record says already of another failure.
    """
    _, described = describe(error)
    described["message"] = f"{what} failed: {' '.join(described['message'].split()) or described['type']}"
    if before is None:
        return described
    return before | {key: f"{before[key]}\n{described[key]}" for key in ("message", "traceback")}
