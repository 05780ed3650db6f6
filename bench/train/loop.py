"""The trials of a pack: train, choose each one's checkpoint on select, show the result on report."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.events import Ended, Event, Started
from bench.tasks.encode import Encoded, Rows
from bench.tasks.retained import AT_ONCE, Retained
from bench.train.batches import Batch, ahead, lockstep
from bench.train.curve import Measured
from bench.train.member import Member
from bench.train.outcome import Diverged, Unsound, failure
from bench.train.plan import Plan
from bench.train.scores import chosen_by, scores_of

Settled = tuple[Member, Ended | Exception]


class Pack(Protocol):
    """Trials that are trained together: `Alone` is one in its model, `Packed` are several over one frozen model.

    seeds: of the trials, each once: what orders the rows of a batch.
    """

    device: torch.device
    seeds: list[int]

    @property
    def members(self) -> Sequence[Member]:
        """The trials that are still in training."""

    @property
    def is_final(self) -> bool:
        """Whether the models are results of the method by now, or still on the way to one."""

    def train(self) -> None:
        """Switch to training mode."""

    def step(self, batch: Batch) -> list[Measured]:
        """Update every member once."""

    def predict(self, rows: Rows, batch: int) -> Tensor:
        """The answers, on the CPU: [members, rows]."""

    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        """The answers and their losses, on the CPU: both [members, questions]."""

    def check(self) -> None:
        """Unsound: what is frozen has moved."""

    def check_moved(self, member: Member) -> None:
        """Unsound: what the trial trains has not moved."""

    def drop(self, members: Sequence[Member]) -> None:
        """Go on without them."""

    def model_of(self, member: Member) -> nn.Module:
        """The model with that trial's weights in it, until the next call."""


def run_trials(
    pack: Pack, data: Encoded, plan: Plan, emit: Callable[[Event], None], retained: Retained | None = None
) -> Iterator[Settled]:
    """Train a pack to the end and score its trials; gives each with its end. Arguments and errors: as for `Run`."""
    run = Run(pack, data, plan, emit)
    yield from run.advance(run.total)
    yield from run.finish(retained)


class Run:
    """The training of a pack, which may stop on the way: what goes on, goes on from where it stood.

    A trial that diverges or does not learn ends with its exception, and the others go on. Both methods give the trials
    that ended, and raise what makes all of them fail.
    """

    def __init__(self, pack: Pack, data: Encoded, plan: Plan, emit: Callable[[Event], None]) -> None:
        self.pack, self.data, self.plan = pack, data, plan
        self.steps, self.total = 0, plan.steps(data.train)
        self.epoch = self.total // plan.epochs  # updates of each
        self.batches = self._passes()
        for member in pack.members:
            emit(Started(member.wanted.trial, self.total))

    def advance(self, until: int) -> Iterator[Settled]:
        """Train up to that update. Select is judged there and after every epoch; only the latter keeps weights."""
        while self.steps < until and self.pack.members:
            end_of_epoch = (self.steps // self.epoch + 1) * self.epoch
            yield from self._train(min(until, end_of_epoch))
            self._judge(keep=self.steps == end_of_epoch)

    def finish(self, retained: Retained | None = None) -> Iterator[Settled]:
        """Score every trial that is left at its best checkpoint, whose weights are in place (`pack.model_of`) when it
        is given. retained: texts that the trials should still predict.
        """
        pack, plan = self.pack, self.plan
        yield from _settle(pack, lambda member, _: member.curve.finish())
        if pack.members:
            pack.check()
        yield from _settle(pack, lambda member, _: pack.check_moved(member))
        with _clock(pack, "eval"):
            for member in pack.members:
                member.best.restore()
            shown = {"report": self.data.report, **self.data.further}
            found = {name: dict(_predictions(pack, rows, plan.eval_batch)) for name, rows in shown.items()}
        retention, error = _retention(pack, retained)
        for member in pack.members:
            more = {"retention": retention[member]} if member in retention else {}
            ended = _ended(member, self.data, {name: by_member[member] for name, by_member in found.items()}, more)
            yield member, replace(ended, error=error)

    def _passes(self) -> Iterator[Batch]:
        """The batches of all epochs, on the device."""
        for number in range(self.plan.epochs):
            passes = [self.plan.one_pass(self.data.train, number=number, seed=seed) for seed in self.pack.seeds]
            yield from ahead(lockstep(passes), self.pack.device)

    def _train(self, until: int) -> list[Settled]:
        """Train up to that update; gives the trials that ended on the way."""
        pack, gone = self.pack, []
        pack.train()
        with _clock(pack, "train"):
            for member in pack.members:
                member.curve.resume()
            while self.steps < until and pack.members:
                batch = next(self.batches)
                measured, together = pack.step(batch), len(pack.members)
                self.steps += 1
                gone += _settle(pack, lambda member, place: member.add(measured[place], batch, together))  # noqa: B023
            gone += _settle(pack, lambda member, _: member.curve.flush())
        return gone

    def _judge(self, *, keep: bool) -> None:
        """Take every member's loss and score on select. keep: its weights may be the best checkpoint."""
        if not self.pack.members:
            return
        with _clock(self.pack, "eval"):
            answers, losses = self.pack.judge(self.data.select, self.plan.eval_batch)
            if self.data.taught is not None:
                losses = -self.pack.predict(self.data.taught, self.plan.eval_batch)
            for member, found, loss in zip(self.pack.members, answers, losses.double().mean(-1), strict=True):
                member.select_losses.append((self.steps, float(loss)))
                if keep:
                    member.best.offer(chosen_by(self.data, found), found, final=self.pack.is_final)


def _retention(pack: Pack, retained: Retained | None) -> tuple[dict[Member, dict[str, Any]], dict[str, str] | None]:
    """What each trial retains of the texts, and what went wrong: no trial loses its scores by that."""
    if retained is None:
        return {}, None
    try:
        found = _predictions(pack, retained.rows, AT_ONCE)
        return {member: retained.told(predictions) for member, predictions in found}, None
    except Exception as error:  # noqa: BLE001 - every position of every text has logits for the whole vocabulary
        return {}, failure(error, "retain=")


def _settle(pack: Pack, judge: Callable[[Member, int], object]) -> list[Settled]:
    """Judge every member; drop those that raise Diverged or Unsound, and give them with that."""
    gone: list[Settled] = []
    for place, member in enumerate(pack.members):
        try:
            judge(member, place)
        except (Diverged, Unsound) as error:
            gone.append((member, error))
    if gone:
        pack.drop([member for member, _ in gone])
    return gone


def _predictions(pack: Pack, rows: Rows, batch: int) -> list[tuple[Member, Tensor]]:
    if not pack.members:
        return []
    return list(zip(pack.members, pack.predict(rows, batch), strict=True))


def _ended(member: Member, data: Encoded, shown: dict[str, Tensor], more: dict[str, Any]) -> Ended:
    """shown: what the best checkpoint predicts for report and the further parts. more: scores beside those of them."""
    best, found = member.best, {"select": member.best.predictions, **shown}
    scores = scores_of(data, found, best.history, best.epoch)
    losses = [[step, loss if math.isfinite(loss) else None] for step, loss in member.select_losses]
    scores |= {"select_losses": losses} | more
    predictions = {part: found[part].tolist() for part in found}
    return Ended(member.wanted.trial, "ok", scores, predictions, member.cost)


@contextmanager
def _clock(pack: Pack, what: str) -> Iterator[None]:
    """Share the seconds that something took among the members that are left."""
    began = time.perf_counter()
    yield
    for member in pack.members:
        member.seconds[what] += (time.perf_counter() - began) / len(pack.members)
