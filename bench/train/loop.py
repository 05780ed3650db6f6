"""One trial: train, choose the checkpoint on select, show the result on report."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from bench.events import Ended, Event, Started
from bench.tasks.encode import Encoded
from bench.train.batches import epoch
from bench.train.curve import Curve
from bench.train.evaluate import accuracy, predict
from bench.train.optim import make_optimizer, make_schedule, step, trainable


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


class Best:
    """The trained weights at the best score on select so far, kept in main memory; the first of equals wins."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.history: list[float] = []
        self.kept: list[Tensor] = []
        self.predictions = torch.empty(0)

    def offer(self, score: float, predictions: Tensor) -> None:
        if score > max(self.history, default=-math.inf):
            self.kept = [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]
            self.predictions = predictions
        self.history.append(score)

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)


class Clock:
    """Seconds spent on training and on evaluation, apart."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - began


def run_trial(
    model: nn.Module,
    data: Encoded,
    plan: Plan,
    *,
    trial: str,
    lr: float,
    seed: int,
    dtype: torch.dtype,
    emit: Callable[[Event], None],
) -> Ended:
    """Train one trial from a freshly attached model and score it. Raises Diverged."""
    device = next(model.parameters()).device
    parameters = trainable(model)
    optimizer = make_optimizer(model, lr, plan.weight_decay)
    steps = plan.epochs * math.ceil(len(data.train) / plan.batch)
    schedule = make_schedule(optimizer, steps, plan.warmup)
    curve, best, clock = Curve(trial, emit), Best(parameters), Clock()
    emit(Started(trial, steps))
    torch.manual_seed(seed)
    for number in range(plan.epochs):
        model.train()
        with clock("train"):
            curve.resume()
            for batch in epoch(data.train, plan.batch, number=number, seed=seed, data_seed=plan.data_seed):
                rate = float(schedule.get_last_lr()[0])
                loss, norm = step(model, batch.to(device), parameters, optimizer, plan.clip, dtype)
                schedule.step()
                curve.add(loss, norm, rate, batch)
            curve.flush()
        with clock("eval"):
            predictions = predict(model, data.select, plan.eval_batch, device, dtype)
            best.offer(accuracy(predictions, data.select), predictions)
    best.restore()
    with clock("eval"):
        found = {"select": best.predictions, "report": predict(model, data.report, plan.eval_batch, device, dtype)}
    scores = {
        "metric": "accuracy",
        "select": accuracy(found["select"], data.select),
        "report": accuracy(found["report"], data.report),
        "select_by_epoch": best.history,
        "best_epoch": best.history.index(max(best.history)) + 1,
    }
    return Ended(trial, "ok", scores, {part: labels.tolist() for part, labels in found.items()}, _cost(clock, curve))


def _cost(clock: Clock, curve: Curve) -> dict[str, Any]:
    """What this trial took in full; the cell's cost, measured apart, is the probe's."""
    return {
        "train_seconds": clock.seconds["train"],
        "eval_seconds": clock.seconds["eval"],
        "steps": curve.steps,
        "samples": curve.rows,
        "tokens": curve.tokens,
        "samples_per_second": curve.rows / clock.seconds["train"],
        "tokens_per_second": curve.tokens / clock.seconds["train"],
    }
