"""The trial's curve: losses and gradient norms, gathered on the device and read every few steps."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bench.events import Event, Stepped
from bench.train.batches import Batch

FLUSH_STEPS = 10  # reading a number from the device makes it wait


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """The loss or the gradient is no longer a number."""


class Curve:
    """Counts steps, rows and tokens; raises Diverged when it reads a number that is not finite."""

    def __init__(self, trial: str, emit: Callable[[Event], None]) -> None:
        self.trial, self.emit = trial, emit
        self.steps, self.rows, self.tokens = 0, 0, 0
        self.pending: list[tuple[Tensor, Tensor, float, int, int]] = []
        self.since = time.perf_counter()

    def add(self, loss: Tensor, norm: Tensor, lr: float, batch: Batch) -> None:
        self.steps, self.rows, self.tokens = self.steps + 1, self.rows + batch.rows, self.tokens + batch.tokens
        self.pending.append((loss, norm, lr, batch.rows, batch.tokens))
        if len(self.pending) == FLUSH_STEPS:
            self.flush()

    def flush(self) -> None:
        """Read what is pending, and pass it on."""
        if not self.pending:
            return
        losses, norms, rates, rows, tokens = zip(*self.pending, strict=True)
        loss, norm = torch.stack([torch.stack(losses), torch.stack(norms)]).tolist()
        numbers = list(range(self.steps - len(loss) + 1, self.steps + 1))
        seconds = time.perf_counter() - self.since
        self.pending.clear()
        for number, value, size in zip(numbers, loss, norm, strict=True):
            if not (math.isfinite(value) and math.isfinite(size)):
                raise Diverged(f"step {number}: loss {value}, gradient norm {size}; try a lower learning rate")
        speed = [sum(tokens) / seconds] * len(loss)
        piece = {"step": numbers, "loss": loss, "lr": list(rates), "grad_norm": norm, "tokens_per_second": speed}
        self.emit(Stepped(self.trial, piece, sum(rows) / seconds))
        self.resume()

    def resume(self) -> None:
        """Count time from now on: what lay before was no training."""
        self.since = time.perf_counter()
