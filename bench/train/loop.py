"""The training loop: train the trials of a pack, choose each trial's checkpoint on select, and score it on report."""

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
    """Trials that are trained together.

    `Alone` is a single trial in its own model. `Packed` is several trials over one frozen model.

    Attributes:
        training: The settings that the trials share.
        seeds: The distinct seeds of the trials. A seed determines which rows fill each batch.
    """

    training: Training
    seeds: list[int]

    @property
    def members(self) -> Sequence[Member]:
        """The trials that are still in training."""

    @property
    def is_final(self) -> bool:
        """Whether the models are results of the method yet, or still intermediate states."""

    def train(self) -> None:
        """Switch to training mode."""

    def step(self, batch: Batch) -> list[Measured]:
        """Update every member once and return one measurement per member."""

    def predict(self, rows: Rows, batch: int) -> Tensor:
        """Return the answers of every member, on the CPU.

        Args:
            rows: The rows to answer.
            batch: The maximum number of rows per forward pass.

        Returns:
            Answers in the rows' order, [members, rows].
        """

    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        """Return the answers of every member and their losses, on the CPU.

        Args:
            rows: The rows to answer.
            batch: The maximum number of rows per forward pass.

        Returns:
            Answers and losses in the rows' order, both [members, questions].
        """

    def check(self) -> None:
        """Check the frozen weights.

        Raises:
            Unsound: A frozen tensor has changed.
        """

    def check_moved(self, member: Member) -> None:
        """Check the trained weights of one member.

        Raises:
            Unsound: Training did not change them.
        """

    def drop(self, members: Sequence[Member]) -> None:
        """Remove these members and continue without them."""

    def model_of(self, member: Member) -> nn.Module:
        """Return the model with this member's weights loaded. It is valid until the next call."""


def run_trials(pack: Pack, emit: Callable[[Event], None], retained: Retained | None = None) -> Iterator[Settled]:
    """Train a pack to the end and score its trials.

    Args:
        pack: The trials to train.
        emit: Receives the events of the trials.
        retained: Texts on which to measure forgetting, or None to skip it.

    Yields:
        Each trial with its result, or with the exception that ended it.

    Raises:
        Unsound: A frozen tensor has changed. Errors that are not specific to one trial are raised as well.
    """
    run = Run(pack, emit)
    yield from run.advance(run.total)
    yield from run.finish(retained)


class Run:
    """The training of a pack. It can pause after any update and resume from there.

    A trial that diverges or does not learn ends with its exception; the other trials continue. `advance` and `finish`
    yield the trials that ended. They raise errors that affect all trials.
    """

    def __init__(self, pack: Pack, emit: Callable[[Event], None]) -> None:
        self.pack, self.data, self.plan = pack, pack.training.data, pack.training.plan
        self.steps, self.total = 0, pack.training.steps
        self.every = self.plan.steps_apart(self.data.train)
        self.batches = self._passes()
        for member in pack.members:
            emit(Started(member.wanted.trial, self.total))

    def advance(self, until: int) -> Iterator[Settled]:
        """Train until update number `until`.

        The select part is evaluated at `until`, at three quarters of all updates, and at every regular evaluation:
        after each epoch (or every `eval_steps` updates) and at the end. Only a regular evaluation can keep the weights
        as the best checkpoint.

        Args:
            until: The number of the last update to run, counted from the start of training.

        Yields:
            Trials that ended on the way, each with its exception.
        """
        late = three_quarters(self.total)
        while self.steps < until and self.pack.members:
            due = min((self.steps // self.every + 1) * self.every, self.total)
            yield from self._train(min(until, due, late if self.steps < late else due))
            self._evaluate_select(regular=self.steps == due)

    def finish(self, retained: Retained | None = None) -> Iterator[Settled]:
        """Score every remaining trial at its best checkpoint.

        Args:
            retained: Texts on which to measure forgetting, or None to skip it.

        Yields:
            Each trial with its result or exception. When a scored trial is yielded, the weights of its best checkpoint
            are restored, so `pack.model_of` returns that model.

        Raises:
            Unsound: A frozen tensor has changed.
        """
        pack, plan = self.pack, self.plan
        yield from _settle(pack, lambda member, _: member.curve.finish())
        if pack.members:
            pack.check()
        yield from _settle(pack, lambda member, _: pack.check_moved(member))
        with _clock(pack, "eval"):
            for member in pack.members:
                member.best.restore()
            scored_parts = {"report": self.data.report, **self.data.further}
            predictions = {name: dict(_predictions(pack, rows, plan.eval_batch)) for name, rows in scored_parts.items()}
        retention, error = _retention(pack, retained)
        for member in pack.members:
            extra = {"retention": retention[member]} if member in retention else {}
            own_predictions = {name: by_member[member] for name, by_member in predictions.items()}
            ended = _ended(member, self.data, own_predictions, extra)
            yield member, replace(ended, error=error)

    def _passes(self) -> Iterator[Batch]:
        """The batches of successive passes over train, without end, on the device."""
        for number in count():
            passes = [self.plan.one_pass(self.data.train, number=number, seed=seed) for seed in self.pack.seeds]
            yield from ahead(lockstep(passes), self.pack.training.compute.device)

    def _train(self, until: int) -> list[Settled]:
        """Train until this update and return the trials that ended on the way."""
        pack, ended = self.pack, []
        pack.train()
        with _clock(pack, "train"):
            for member in pack.members:
                member.curve.resume()
            while self.steps < until and pack.members:
                batch = next(self.batches)
                measured, trials = pack.step(batch), len(pack.members)
                self.steps += 1
                ended += _settle(pack, lambda member, place: member.add(measured[place], batch, trials))  # noqa: B023
            ended += _settle(pack, lambda member, _: member.curve.flush())
        return ended

    def _evaluate_select(self, *, regular: bool) -> None:
        """Record every member's loss on select.

        A regular evaluation also records the score and may keep the weights as the best checkpoint.
        """
        if not self.pack.members:
            return
        with _clock(self.pack, "eval"):
            answers, losses = self._select_answers(scored=regular)
            for place, member in enumerate(self.pack.members):
                member.note(self.steps, self.total, losses[place].double())
                if answers is not None:
                    predictions = answers[place]
                    score = chosen_by(self.data, predictions)
                    member.best.offer(score, predictions, final=self.pack.is_final)

    def _select_answers(self, *, scored: bool) -> tuple[Tensor | None, Tensor]:
        """Answers to select (None unless scored) and their losses, both [members, questions]."""
        pack, data, batch = self.pack, self.data, self.plan.eval_batch
        if data.taught is None:
            answers, losses = pack.judge(data.select, batch)
            return answers if scored else None, losses
        losses = -pack.predict(data.taught, batch)
        return pack.predict(data.select, batch) if scored else None, losses


def _retention(pack: Pack, retained: Retained | None) -> tuple[dict[Member, dict[str, Any]], dict[str, str] | None]:
    """Measure each trial's forgetting on the texts. A failure is returned, so that no trial loses its scores."""
    if retained is None:
        return {}, None
    try:
        log_likelihoods = _predictions(pack, retained.rows, AT_ONCE)
        return {member: retained.entry(by_text) for member, by_text in log_likelihoods}, None
    except Exception as error:  # noqa: BLE001 - logits for the whole vocabulary at every position need much memory
        return {}, failure(error, "retain=")


def _settle(pack: Pack, judge: Callable[[Member, int], object]) -> list[Settled]:
    """Judge every member. Drop those that raise Diverged or Unsound, and return them with their exceptions."""
    ended: list[Settled] = []
    for place, member in enumerate(pack.members):
        try:
            judge(member, place)
        except (Diverged, Unsound) as error:
            ended.append((member, error))
    if ended:
        pack.drop([member for member, _ in ended])
    return ended


def _predictions(pack: Pack, rows: Rows, batch: int) -> list[tuple[Member, Tensor]]:
    if not pack.members:
        return []
    return list(zip(pack.members, pack.predict(rows, batch), strict=True))


def _ended(member: Member, data: Encoded, predictions: dict[str, Tensor], extra: dict[str, Any]) -> Ended:
    """The result of a scored trial.

    predictions: of the best checkpoint, for the report part and the further parts. extra: entries added to the scores.
    """
    best, by_part = member.best, {"select": member.best.predictions, **predictions}
    scores = scores_of(data, by_part, best.history, best.epoch)
    scores |= {"select_losses": [list(pair) for pair in member.finite_losses], "rise": member.rise} | extra
    listed = {part: by_part[part].tolist() for part in by_part}
    return Ended(member.wanted.trial, "ok", scores, listed, member.cost)


@contextmanager
def _clock(pack: Pack, activity: str) -> Iterator[None]:
    """Time an activity, and divide the seconds equally among the members that remain after it."""
    began = time.perf_counter()
    yield
    for member in pack.members:
        member.seconds[activity] += (time.perf_counter() - began) / len(pack.members)
