"""Trials trained in this process, on either device, with their losses and weights."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from asked import DTYPES
from page import Page, one_line
from torch import Tensor

from bench.cells.cell import Cell
from bench.events import Event, Stepped
from bench.models.speed.speedups import Fast
from bench.runner.build import load_data, recipe_of
from bench.runner.packing import Trials
from bench.runner.setup import CellSetup
from bench.tasks.encoding.rows import Encoded
from bench.train.device import Compute
from bench.train.loop import Pack, run_trials
from bench.train.outcome import release
from bench.train.settings import Plan, Training

PLAIN = Fast("torch", "all")
Losses = dict[str, list[float]]


@dataclass
class Outcome:
    """The outcome of one trial."""

    losses: list[float]
    weights: dict[str, Tensor]
    seconds: float

    def apart(self, other: "Outcome") -> dict[str, float]:
        """Return the largest differences of losses and of weights."""
        weights = (float((part - other.weights[name]).abs().max()) for name, part in self.weights.items())
        return {"losses": apart(self.losses, other.losses), "weights": max(weights)}


@dataclass
class Ground:
    """A cell with its data and its trials."""

    setup: CellSetup
    trials: Trials
    losses: Losses

    @classmethod
    def of(cls, cell: Cell, device: str, precision: str, fast: Fast = PLAIN) -> "Ground":
        """Take all rows to train on, and a few to evaluate on."""
        whole, losses = load_data(cell), Losses()
        few = Encoded(whole.train, whole.select.first(8), whole.report.first(8)).in_multiples(fast.multiple)
        compute = Compute(torch.device(device), DTYPES[precision])
        setup = CellSetup(cell, Training(few, Plan.of(cell.conf.protocol), recipe_of(cell), compute), fast)
        return cls(setup, Trials(setup, keeping(losses)), losses)

    def train(self, pack: Pack) -> dict[str, Outcome]:
        """Train a pack to its end. Returns the outcomes by trial, or raises the exception that a trial ended with."""
        outcomes, began = {}, time.perf_counter()
        for member, end in run_trials(pack, lambda _: None):
            if isinstance(end, Exception):
                raise end
            name = member.wanted.trial
            weights = {part: tensor.detach().float().cpu().clone() for part, tensor in member.parameters.items()}
            outcomes[name] = Outcome(self.losses.pop(name), weights, time.perf_counter() - began)
        return outcomes

    def first(self) -> Outcome:
        """Train the first trial by itself."""
        (outcome,) = self.train(self.trials.alone(self.setup.cell.trials[0])).values()
        return outcome


def apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest difference of two lists of losses."""
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def attempted(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a row of a table, or the error in its place, so that the other rows continue."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001
        release(error)
        return {"error": one_line(error)}


def against_first(page: Page, rows: Iterable[tuple[str, dict[str, Any]]], what: str, most: float) -> None:
    """Keep named rows, and claim that the losses of each are close to those of the first row with losses."""
    first: list[float] = []
    for name, row in rows:
        page.row("table", name, row)
        first = first or row.get("losses", [])
        if "error" in row or not first:
            page.claim(f"{name}: {row.get('error', 'nothing to compare with')}", None)
        else:
            page.claim(f"{name}: {what}", apart(row["losses"], first), most=most)


def keeping(losses: Losses) -> Callable[[Event], None]:
    """Return a callback that keeps the reported losses by trial."""

    def emit(event: Event) -> None:
        if isinstance(event, Stepped):
            losses.setdefault(event.trial, []).extend(event.curve["loss"])

    return emit
