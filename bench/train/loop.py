"""One trial: train, choose the checkpoint on select, show the result on report."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from bench.events import Ended, Event, Started, Stepped
from bench.tasks.encode import Encoded
from bench.train.batches import epoch
from bench.train.evaluate import accuracy, predict
from bench.train.optim import make_optimizer, make_schedule, step, trainable

FLUSH_STEPS = 10  # steps between two readings of losses that lie on the device


class Diverged(Exception):  # noqa: N818 - an outcome, not a fault
    """The loss or the gradient is no longer a number."""


@dataclass(frozen=True)
class Plan:
    """What the protocol says about training."""

    epochs: int
    batch: int
    eval_batch: int
    weight_decay: float
    warmup: float
    clip: float
    data_seed: int

    @classmethod
    def of(cls, protocol: dict[str, Any]) -> "Plan":
        """Take what training needs from the protocol."""
        return cls(**{field.name: protocol[field.name] for field in fields(cls)})


class Curve:
    """Losses and norms, gathered on the device and read every few steps. Raises Diverged when it reads one that is not finite."""

    def __init__(self, trial: str, emit: Callable[[Event], None]) -> None:
        self.trial, self.emit = trial, emit
        self.pending: list[tuple[int, Tensor, Tensor, float, int, int]] = []
        self.since = time.perf_counter()

    def add(self, number: int, loss: Tensor, norm: Tensor, lr: float, tokens: int, rows: int) -> None:
        self.pending.append((number, loss, norm, lr, tokens, rows))
        if len(self.pending) == FLUSH_STEPS:
            self.flush()

    def flush(self) -> None:
        if not self.pending:
            return
        numbers, losses, norms, rates, tokens, rows = zip(*self.pending, strict=True)
        loss, norm = torch.stack([torch.stack(losses), torch.stack(norms)]).tolist()
        seconds = time.perf_counter() - self.since
        self.pending.clear()
        for number, value, size in zip(numbers, loss, norm, strict=True):
            if not (math.isfinite(value) and math.isfinite(size)):
                raise Diverged(f"step {number}: loss {value}, gradient norm {size}; try a lower learning rate")
        speed = [sum(tokens) / seconds] * len(loss)
        curve = {"step": list(numbers), "loss": loss, "lr": list(rates), "grad_norm": norm, "tokens_per_second": speed}
        self.emit(Stepped(self.trial, curve, sum(rows) / seconds))
        self.since = time.perf_counter()

    def pause(self) -> None:
        """Flush, and do not count what happens until `resume` as training time."""
        self.flush()

    def resume(self) -> None:
        self.since = time.perf_counter()


def run_trial(
    model: nn.Module, data: Encoded, plan: Plan, *, trial: str, lr: float, seed: int, dtype: torch.dtype,
    emit: Callable[[Event], None],
) -> Ended:
    """Train one trial from a freshly attached model and score it. Raises Diverged."""
    device = next(model.parameters()).device
    parameters = trainable(model)
    optimizer = make_optimizer(parameters, lr, plan.weight_decay)
    steps = plan.epochs * math.ceil(len(data.train) / plan.batch)
    schedule = make_schedule(optimizer, steps, plan.warmup)
    curve = Curve(trial, emit)
    emit(Started(trial, steps))
    torch.manual_seed(seed)
    number, train_seconds, eval_seconds, tokens = 0, 0.0, 0.0, 0
    history: list[float] = []
    best: list[Tensor] = []
    for turn in range(plan.epochs):
        model.train()
        curve.resume()
        began = time.perf_counter()
        for batch in epoch(data.train, plan.batch, number=turn, seed=seed, data_seed=plan.data_seed):
            rate = schedule.get_last_lr()[0]
            loss, norm = step(model, batch.to(device), parameters, optimizer, plan.clip, dtype)
            schedule.step()
            number, tokens = number + 1, tokens + batch.tokens
            curve.add(number, loss, norm, rate, batch.tokens, batch.rows)
        curve.flush()
        train_seconds += time.perf_counter() - began
        began = time.perf_counter()
        score = accuracy(predict(model, data.select, plan.eval_batch, device, dtype), data.select)
        eval_seconds += time.perf_counter() - began
        if score > max(history, default=-1.0):
            best = [parameter.detach().to("cpu", copy=True) for parameter in parameters]
        history.append(score)
    with torch.no_grad():
        for parameter, kept in zip(parameters, best, strict=True):
            parameter.copy_(kept)
    began = time.perf_counter()
    predictions = {
        part: predict(model, getattr(data, part), plan.eval_batch, device, dtype) for part in ("select", "report")
    }
    eval_seconds += time.perf_counter() - began
    scores: dict[str, Any] = {
        "metric": "accuracy",
        "select": accuracy(predictions["select"], data.select),
        "report": accuracy(predictions["report"], data.report),
        "select_by_epoch": history,
        "best_epoch": history.index(max(history)) + 1,
    }
    cost = {
        "train_seconds": train_seconds,
        "eval_seconds": eval_seconds,
        "steps": steps,
        "samples": plan.epochs * len(data.train),
        "tokens": tokens,
        "samples_per_second": plan.epochs * len(data.train) / train_seconds,
        "tokens_per_second": tokens / train_seconds,
    }
    return Ended(trial, "ok", scores, {part: found.tolist() for part, found in predictions.items()}, cost)
