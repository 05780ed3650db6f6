"""One trial: train, choose the checkpoint on select, show the result on report."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.events import Ended, Event, Started
from bench.hooks import Hooks
from bench.tasks.encode import Encoded
from bench.train.batches import epoch
from bench.train.curve import Curve
from bench.train.evaluate import accuracy, arguments, predict
from bench.train.guard import Guard
from bench.train.optim import make_optimizer, make_schedule
from bench.train.step import Stepper

PREPARING = 16  # batches that a method may look at before it trains


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

    def steps(self, rows: int) -> int:
        """Updates of a whole training on that many rows."""
        return self.epochs * math.ceil(rows / self.batch)


class Best:
    """The trained weights at the best score on select so far, kept in main memory; the first of equals wins."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.history: list[float] = []
        self.score, self.epoch = -math.inf, 0
        self.kept: list[Tensor] = []
        self.predictions = torch.empty(0)

    def offer(self, score: float, predictions: Tensor, *, final: bool = True) -> None:
        """Keep the weights if the score is the best yet. final: whether they may be the method's result at all."""
        self.history.append(score)
        if final and score > self.score:
            self.kept = [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]
            self.score, self.epoch, self.predictions = score, len(self.history), predictions

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


@dataclass(frozen=True)
class Recipe:
    """How a method is trained: its hooks, and how its optimizer is built."""

    hooks: Hooks
    build: Callable[..., Optimizer]
    lr_ratio: Mapping[str, float]


def run_trial(
    model: nn.Module,
    data: Encoded,
    plan: Plan,
    recipe: Recipe,
    *,
    trial: str,
    lr: float,
    seed: int,
    dtype: torch.dtype,
    emit: Callable[[Event], None],
) -> Ended:
    """Train a freshly attached model and score it; it is left with its best weights. Raises Diverged or Unsound."""
    device = next(model.parameters()).device
    hooks, steps = recipe.hooks, plan.steps(len(data.train))
    rehearse(model, data, plan, hooks, device, dtype)
    optimizer = make_optimizer(model, recipe.build, lr=lr, weight_decay=plan.weight_decay, lr_ratio=recipe.lr_ratio)
    schedule = make_schedule(optimizer, steps, plan.warmup)
    step = Stepper(model, optimizer, hooks, clip=plan.clip, dtype=dtype)
    guard, best, clock, curve = Guard(model), Best(step.head + step.body), Clock(), Curve(trial, emit)
    emit(Started(trial, steps))
    torch.manual_seed(seed)
    hooks.begin(model, steps)
    for number in range(plan.epochs):
        model.train()
        with clock("train"):
            curve.resume()
            for batch in epoch(data.train, plan.batch, number=number, seed=seed, data_seed=plan.data_seed):
                rate = float(schedule.get_last_lr()[0])
                measured = step(batch.to(device))
                schedule.step()
                curve.add(measured, rate, batch)
            curve.flush()
        with clock("eval"):
            predictions = predict(model, data.select, plan.eval_batch, device, dtype)
            best.offer(accuracy(predictions, data.select), predictions, final=hooks.is_final(step.steps))
    curve.finish()
    guard.check(model)
    best.restore()
    with clock("eval"):
        found = {"select": best.predictions, "report": predict(model, data.report, plan.eval_batch, device, dtype)}
    scores = {
        "metric": "accuracy",
        "select": accuracy(found["select"], data.select),
        "report": accuracy(found["report"], data.report),
        "select_by_epoch": best.history,
        "best_epoch": best.epoch,
    }
    return Ended(trial, "ok", scores, {part: labels.tolist() for part, labels in found.items()}, _cost(clock, curve))


def rehearse(
    model: nn.Module, data: Encoded, plan: Plan, hooks: Hooks, device: torch.device, dtype: torch.dtype
) -> None:
    """What comes before the first step: the method's start from data, and an evaluation of one batch.

    The evaluation is there for its after-effects: what it breaks must show in training, where the guard sees it.
    """
    model.eval()
    batches = epoch(data.train, plan.batch, number=0, seed=plan.data_seed, data_seed=plan.data_seed)
    hooks.prepare(model, [arguments(batch.to(device)) for batch in islice(batches, PREPARING)])
    predict(model, data.select.first(plan.batch), plan.eval_batch, device, dtype)


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
