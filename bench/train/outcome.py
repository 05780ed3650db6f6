"""How a trial can end other than well, and what its record says about it."""

import traceback

import torch


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """The loss or the gradient is no longer a number."""


class Unsound(RuntimeError):  # noqa: N818 - a judgement on the trial
    """The trial did not do what its method says; it is recorded as failed."""


def is_oom(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the accelerator or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


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
