"""The ways in which a trial can fail, and how its record describes them."""

import gc
import re
import traceback

import torch

# Messages of torch and its libraries when memory runs out. cuBLAS, cuSPARSE, cuSOLVER, cuFFT and cuDNN, and their AMD
# counterparts, each have a status of their own.
OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP|MPS|XPU)( driver)?( error:| backend)? out of memory"
    r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
    r"|_ALLOC(ATION)?_FAILED|StatusAllocFailed|status_memory_error"
    r"|can't allocate memory|not enough memory: you tried|Cannot allocate memory|std::bad_alloc"
)


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """The loss or the gradient is no longer finite."""


class Unsound(RuntimeError):  # noqa: N818 - a judgement on the trial
    """The trial did not do what its method promises. It is recorded as failed."""


def is_oom(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, means that memory ran out on the accelerator or on the CPU."""
    return any(
        isinstance(linked, (torch.OutOfMemoryError, MemoryError))
        or (isinstance(linked, (RuntimeError, OSError)) and OUT_OF_MEMORY.search(str(linked)) is not None)
        for linked in _linked(error, "__cause__")
    )


def release(error: BaseException) -> None:
    """Free the memory that a failed attempt holds. The frames of its traceback keep every tensor that they used.

    Call this before a smaller attempt. Otherwise that attempt has less memory than the first one had.

    Args:
        error: The error that ended the attempt.
    """
    for linked in _linked(error, "__cause__", "__context__"):
        traceback.clear_frames(linked.__traceback__)
    gc.collect()  # modules and their hooks refer to each other
    torch.cuda.empty_cache()  # does nothing if CUDA is not in use


def _linked(error: BaseException, *links: str) -> list[BaseException]:
    """The error, and all errors that can be reached from it through these attributes."""
    reached: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        candidate = waiting.pop()
        if candidate is not None and not any(candidate is other for other in reached):
            reached.append(candidate)
            waiting += [getattr(candidate, link) for link in links]
    return reached


def describe(error: Exception) -> tuple[str, dict[str, str]]:
    """Return how a record describes an exception.

    Returns:
        The outcome ("diverged", "oom" or "failed"), and the type, message and traceback.
    """
    outcome = "diverged" if isinstance(error, Diverged) else "oom" if is_oom(error) else "failed"
    trace = "".join(traceback.format_exception(error))
    return outcome, {"type": type(error).__name__, "message": str(error), "traceback": trace}


def failure(error: Exception, what: str, before: dict[str, str] | None = None) -> dict[str, str]:
    """Return how the record of a scored trial describes an additional request that failed.

    Args:
        error: The failure.
        what: The request, as the user's setting.
        before: An earlier failure that the record already describes, or None.

    Returns:
        The type, message and traceback, with those of `before` first.
    """
    _, described = describe(error)
    described["message"] = f"{what} failed: {' '.join(described['message'].split()) or described['type']}"
    if before is None:
        return described
    return before | {key: f"{before[key]}\n{described[key]}" for key in ("message", "traceback")}
