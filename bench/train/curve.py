"""The curve of a trial: losses and gradient norms, collected on the device and read every few steps."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.events import Event, Stepped
from bench.train.batches import Batch
from bench.train.guard import Guard
from bench.train.outcome import Diverged, Unsound

FLUSH_STEPS = 10  # steps per read, because reading a number makes the host wait for the device


@dataclass(frozen=True)
class Measured:
    """The measurements of one update, as scalars on the device. Reading them makes the host wait.

    Attributes:
        loss: The loss of the task.
        penalty: What the method adds to the loss. None if it adds nothing.
        norm: The norm of all gradients before clipping.
        body_norm: The norm of the gradients below the head, before clipping. None if only the head is trained.
    """

    loss: Tensor
    penalty: Tensor | None
    norm: Tensor
    body_norm: Tensor | None


class Curve:
    """Count steps, rows and tokens, and detect trials that diverge or do not learn.

    The reported speeds are those of the machine: they include all trials that share an update.
    """

    def __init__(self, trial: str, emit: Callable[[Event], None]) -> None:
        self.trial, self.emit = trial, emit
        self.steps, self.rows, self.tokens = 0, 0, 0
        self.pending: list[tuple[Measured, float, int, int, int]] = []  # measurements, rate, rows, tokens, trials
        self.body_norms: deque[float] = deque(maxlen=FLUSH_STEPS)
        self.since = time.perf_counter()

    def add(self, measured: Measured, lr: float, batch: Batch, trials: int = 1) -> None:
        """Add an update of this trial.

        Args:
            measured: The measurements of the update.
            lr: The learning rate of the update.
            batch: The batch of the update.
            trials: How many trials shared the update.

        Raises:
            Diverged: As for `flush`.
            Unsound: As for `flush`.
        """
        self.steps, self.rows, self.tokens = self.steps + 1, self.rows + batch.rows, self.tokens + batch.tokens
        self.pending.append((measured, lr, batch.rows, batch.tokens, trials))
        if len(self.pending) == FLUSH_STEPS:
            self.flush()

    def flush(self) -> None:
        """Read the pending measurements, check them, and emit them as an event.

        Raises:
            Diverged: A loss or a gradient norm is not finite after the first update.
            Unsound: A loss or a gradient norm is not finite before any update, or the gradients below the head are
                exactly zero in several consecutive steps.
        """
        if not self.pending:
            return
        measured, rates, rows, tokens, trials = zip(*self.pending, strict=True)
        self.pending.clear()
        curves = _read(measured)
        seconds = time.perf_counter() - self.since
        numbers: list[float] = list(range(self.steps - len(rates) + 1, self.steps + 1))
        for number, loss, norm in zip(numbers, curves["loss"], curves["grad_norm"], strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                if number == 1:
                    raise Unsound(
                        f"step 1: loss {loss}, gradient norm {norm} before any update: a lower learning rate does not "
                        "help; try precision=fp32, or another checkpoint"
                    )
                raise Diverged(f"step {number}: loss {loss}, gradient norm {norm}; try a lower learning rate")
        # If the gradient of the head is zero as well, nothing is left to learn, and that is no fault.
        norms = zip(curves.pop("body_norm", []), curves["grad_norm"], strict=False)
        self.body_norms.extend(body for body, norm in norms if norm > 0)
        if len(self.body_norms) == FLUSH_STEPS:
            self.finish()
        samples_per_second, tokens_per_second = (
            sum(count * sharing for count, sharing in zip(counts, trials, strict=True)) / seconds
            for counts in (rows, tokens)
        )
        settings: dict[str, list[float]] = {"lr": list(rates), "rows": list(rows)}
        piece = {"step": numbers, **curves, **settings, "tokens_per_second": [tokens_per_second] * len(rates)}
        self.emit(Stepped(self.trial, piece, samples_per_second))
        self.resume()

    def finish(self) -> None:
        """Check the last steps of a trial, even if there are fewer than usual.

        Raises:
            Unsound: As for `flush`.
        """
        Guard.alive(list(self.body_norms), self.steps)

    def resume(self) -> None:
        """Restart the clock, so that time not spent on training is not counted."""
        self.since = time.perf_counter()


def _read(measured: Sequence[Measured]) -> dict[str, list[float]]:
    """The numbers of some updates, copied from the device in one transfer."""
    scalars = {
        "loss": [update.loss for update in measured],
        "grad_norm": [update.norm for update in measured],
        "penalty": [update.penalty for update in measured if update.penalty is not None],
        "body_norm": [update.body_norm for update in measured if update.body_norm is not None],
    }
    stacked = {name: torch.stack(values).float() for name, values in scalars.items() if values}
    numbers: list[list[float]] = torch.stack(list(stacked.values())).tolist()
    return dict(zip(stacked, numbers, strict=True))
