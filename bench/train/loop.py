"""The trials of a pack: train, choose each one's checkpoint on select, show the result on report."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, Protocol

from torch import Tensor, nn

from bench.events import Ended, Event, Started
from bench.tasks.encoding.forgetting import AT_ONCE, Retained
from bench.tasks.encoding.rows import Encoded, Rows
from bench.train.batches import Batch, ahead, lockstep
from bench.train.curve import Measured
from bench.train.outcome import Diverged, Unsound, failure
from bench.train.scores import chosen_by, scores_of
from bench.train.settings import Training
from bench.train.trial_state import Member, three_quarters

Settled = tuple[Member, Ended | Exception]


class Pack(Protocol):
    """Trials that are trained together: `Alone` is one in its model, `Packed` are several over one frozen model.

    seeds: of the trials, each once: what orders the rows of a batch.
    """

    training: Training
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


def run_trials(pack: Pack, emit: Callable[[Event], None], retained: Retained | None = None) -> Iterator[Settled]:
    """Train a pack to the end and score its trials; gives each with its end. Arguments and errors: as for `Run`."""
    run = Run(pack, emit)
    yield from run.advance(run.total)
    yield from run.finish(retained)


class Run:
    """The training of a pack, which may stop on the way: what goes on, goes on from where it stood.

    A trial that diverges or does not learn ends with its exception, and the others go on. Both methods give the trials
    that ended, and raise what makes all of them fail.
    """

    def __init__(self, pack: Pack, emit: Callable[[Event], None]) -> None:
        self.pack, self.data, self.plan = pack, pack.training.data, pack.training.plan
        self.steps, self.total = 0, pack.training.steps
        self.every = self.plan.steps_apart(self.data.train)
        self.batches = self._passes()
        for member in pack.members:
            emit(Started(member.wanted.trial, self.total))

    def advance(self, until: int) -> Iterator[Settled]:
        """Train up to that update. Select is judged there, at three quarters of all, and where that is due: after every
        epoch, or every `eval_steps` updates, and at the end. Only where it is due weights are kept.
        """
        late = three_quarters(self.total)
        while self.steps < until and self.pack.members:
            due = min((self.steps // self.every + 1) * self.every, self.total)
            yield from self._train(min(until, due, late if self.steps < late else due))
            self._judge(keep=self.steps == due)

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
        """The batches of one pass after the other, on the device."""
        for number in count():
            passes = [self.plan.one_pass(self.data.train, number=number, seed=seed) for seed in self.pack.seeds]
            yield from ahead(lockstep(passes), self.pack.training.compute.device)

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
            answers, losses = self._judged(answered=keep)
            for place, member in enumerate(self.pack.members):
                member.note(self.steps, self.total, losses[place].double())
                if answers is not None:
                    found = answers[place]
                    member.best.offer(chosen_by(self.data, found), found, final=self.pack.is_final)

    def _judged(self, *, answered: bool) -> tuple[Tensor | None, Tensor]:
        """The answers to select and their losses, both [members, questions]. answered: whether answers are needed."""
        pack, data, batch = self.pack, self.data, self.plan.eval_batch
        if data.taught is None:
            answers, losses = pack.judge(data.select, batch)
            return answers if answered else None, losses
        losses = -pack.predict(data.taught, batch)
        return pack.predict(data.select, batch) if answered else None, losses


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
    scores |= {"select_losses": [list(pair) for pair in member.finite_losses], "rise": member.rise} | more
    predictions = {part: found[part].tolist() for part in found}
    return Ended(member.wanted.trial, "ok", scores, predictions, member.cost)


@contextmanager
def _clock(pack: Pack, what: str) -> Iterator[None]:
    """Share the seconds that something took among the members that are left."""
    began = time.perf_counter()
    yield
    for member in pack.members:
        member.seconds[what] += (time.perf_counter() - began) / len(pack.members)
