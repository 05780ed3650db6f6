"""The trials of a pack: train, choose each one's checkpoint on select, show the result on report."""

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
    """Train a pack and score its trials; gives each with its end. retained: texts that they should still predict.

    A trial that diverges or does not learn ends with its exception, and the others go on. One that ended well has its
    best weights in place (`pack.model_of`) when it is given. Raises what makes all of them fail.
    """
    steps = plan.steps(data.train)
    for member in pack.members:
        emit(Started(member.wanted.trial, steps))
    for number in range(plan.epochs):
        yield from _one_epoch(pack, data.train, plan, number)
        with _clock(pack, "eval"):
            for member, predictions in _predictions(pack, data.select, plan.eval_batch):
                member.best.offer(chosen_by(data, predictions), predictions, final=pack.is_final)
    yield from _settle(pack, lambda member, _: member.curve.finish())
    if pack.members:
        pack.check()
    yield from _settle(pack, lambda member, _: pack.check_moved(member))
    with _clock(pack, "eval"):
        for member in pack.members:
            member.best.restore()
        shown = {"report": data.report, **data.further}
        found = {name: dict(_predictions(pack, rows, plan.eval_batch)) for name, rows in shown.items()}
    retention, error = _retention(pack, retained)
    for member in pack.members:
        more = {"retention": retention[member]} if member in retention else {}
        ended = _ended(member, data, {name: by_member[member] for name, by_member in found.items()}, more)
        yield member, replace(ended, error=error)


def _retention(pack: Pack, retained: Retained | None) -> tuple[dict[Member, dict[str, Any]], dict[str, str] | None]:
    """What each trial retains of the texts, and what went wrong: no trial loses its scores by that."""
    if retained is None:
        return {}, None
    try:
        found = _predictions(pack, retained.rows, AT_ONCE)
        return {member: retained.told(predictions) for member, predictions in found}, None
    except Exception as error:  # noqa: BLE001 - every position of every text has logits for the whole vocabulary
        return {}, failure(error, "retain=")


def _one_epoch(pack: Pack, rows: Rows, plan: Plan, number: int) -> list[Settled]:
    """One pass over the data; gives the trials that ended on the way."""
    gone: list[Settled] = []
    pack.train()
    with _clock(pack, "train"):
        for member in pack.members:
            member.curve.resume()
        passes = [plan.one_pass(rows, number=number, seed=seed) for seed in pack.seeds]
        for batch in ahead(lockstep(passes), pack.device):
            if not pack.members:
                break
            measured, together = pack.step(batch), len(pack.members)
            gone += _settle(pack, lambda member, place: member.add(measured[place], batch, together))  # noqa: B023
        gone += _settle(pack, lambda member, _: member.curve.flush())
    return gone


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
    scores = scores_of(data, found, best.history, best.epoch) | more
    predictions = {part: found[part].tolist() for part in found}
    return Ended(member.wanted.trial, "ok", scores, predictions, member.cost)


@contextmanager
def _clock(pack: Pack, what: str) -> Iterator[None]:
    """Share the seconds that something took among the members that are left."""
    began = time.perf_counter()
    yield
    for member in pack.members:
        member.seconds[what] += (time.perf_counter() - began) / len(pack.members)
