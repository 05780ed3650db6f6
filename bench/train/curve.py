"""The trial's curve: losses and gradient norms, gathered on the device and read every few steps."""

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

FLUSH_STEPS = 10  # reading a number from the device makes it wait


@dataclass(frozen=True)
class Measured:
    """What an update tells, as scalars on the device: reading them would wait.

    loss: the cross-entropy. penalty: what the method adds to it. norm: of all gradients before clipping. body_norm: of
    those that are not the head's, None where the head alone is trained.
    """

    loss: Tensor
    penalty: Tensor | None
    norm: Tensor
    body_norm: Tensor | None


class Curve:
    """Counts steps, rows and tokens; raises when it reads a number that is not finite, or gradients that are dead.

    The speeds that it tells are the machine's: of all trials that share an update.
    """

    def __init__(self, trial: str, emit: Callable[[Event], None]) -> None:
        self.trial, self.emit = trial, emit
        self.steps, self.rows, self.tokens = 0, 0, 0
        self.pending: list[tuple[Measured, float, int, int, int]] = []  # with rate, rows, tokens and trials
        self.body_norms: deque[float] = deque(maxlen=FLUSH_STEPS)
        self.since = time.perf_counter()

    def add(self, measured: Measured, lr: float, batch: Batch, trials: int = 1) -> None:
        """Note an update of one of so many trials. Diverged, Unsound: as for flush."""
        self.steps, self.rows, self.tokens = self.steps + 1, self.rows + batch.rows, self.tokens + batch.tokens
        self.pending.append((measured, lr, batch.rows, batch.tokens, trials))
        if len(self.pending) == FLUSH_STEPS:
            self.flush()

    def flush(self) -> None:
        """Read what is pending, and pass it on.

        Diverged: a number is not finite after an update. Unsound: it is not before any; or no gradient is alive.
        """
        if not self.pending:
            return
        measured, rates, rows, tokens, trials = zip(*self.pending, strict=True)
        self.pending.clear()
        read = _read(measured)
        seconds = time.perf_counter() - self.since
        numbers: list[float] = list(range(self.steps - len(rates) + 1, self.steps + 1))
        for number, loss, norm in zip(numbers, read["loss"], read["grad_norm"], strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                if number == 1:
                    raise Unsound(
                        f"step 1: loss {loss}, gradient norm {norm} before any update: a lower learning rate does not "
                        "help; try precision=fp32, or another checkpoint"
                    )
                raise Diverged(f"step {number}: loss {loss}, gradient norm {norm}; try a lower learning rate")
        # Where the head's gradient is zero too, there is nothing left to learn: no fault.
        alive = zip(read.pop("body_norm", []), read["grad_norm"], strict=False)
        self.body_norms.extend(body for body, norm in alive if norm > 0)
        if len(self.body_norms) == FLUSH_STEPS:
            self.finish()
        samples_per_second, tokens_per_second = (
            sum(count * together for count, together in zip(part, trials, strict=True)) / seconds
            for part in (rows, tokens)
        )
        steady: dict[str, list[float]] = {"lr": list(rates), "rows": list(rows)}
        piece = {"step": numbers, **read, **steady, "tokens_per_second": [tokens_per_second] * len(rates)}
        self.emit(Stepped(self.trial, piece, samples_per_second))
        self.resume()

    def finish(self) -> None:
        """Judge the last steps of a trial, fewer than the usual number where it has no more. Unsound: as for flush."""
        Guard.alive(list(self.body_norms), self.steps)

    def resume(self) -> None:
        """Count time from now on: what lay before was no training."""
        self.since = time.perf_counter()


def _read(measured: Sequence[Measured]) -> dict[str, list[float]]:
    """The numbers of some updates, fetched from the device at once."""
    rows = {
        "loss": [one.loss for one in measured],
        "grad_norm": [one.norm for one in measured],
        "penalty": [one.penalty for one in measured if one.penalty is not None],
        "body_norm": [one.body_norm for one in measured if one.body_norm is not None],
    }
    there = {name: torch.stack(values).float() for name, values in rows.items() if values}
    numbers: list[list[float]] = torch.stack(list(there.values())).tolist()
    return dict(zip(there, numbers, strict=True))
