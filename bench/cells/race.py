"""A cell's race for its learning rate: which candidates train on, which are dropped, and which one wins.

Every candidate trains the first part of the schedule, on a seed that the report does not use. The best ones train to
the end, and the lowest loss on select wins. Every decision in this file depends on these losses alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from bench.config.schema import ProtocolConf

WAITING, DROPPED, FINISHED = "waiting", "dropped", "finished"


@dataclass(frozen=True)
class Rule:
    """How the learning rate of a cell is chosen.

    Attributes:
        candidates: Number of initial rates. If it is even, one more lies above the published rate than below it.
        finalists: Number of candidates that train to the end.
        seed: Seed of the race. The report uses other seeds.
        widenings: Maximum number of rates added beyond the best one when it lies at an edge.
        apart: Distance between neighbouring rates, in decades.
        first_part: Share of the schedule that every candidate trains. After only a third, some do not yet learn.
    """

    candidates: int
    finalists: int
    seed: int
    widenings: int = 2
    apart: float = 0.5
    first_part: float = 1 / 2

    @classmethod
    def of(cls, protocol: ProtocolConf) -> Self | None:
        """Return the rule of a protocol, or None if it does not tune."""
        if protocol.candidates is None:
            return None
        return cls(protocol.candidates, protocol.finalists, protocol.tune_seed)

    def rates(self, published: float) -> list[float]:
        """Return the initial rates around the published one, in rising order, rounded to three significant digits."""
        below = (self.candidates - 1) // 2
        return [self.rate(published, place - below) for place in range(self.candidates)]

    def rate(self, published: float, place: int) -> float:
        """Return the rate `place` steps above the published one, rounded to three significant digits."""
        return float(f"{published * 10 ** (self.apart * place):.3g}")

    def covers(self, other: Self) -> bool:
        """Return whether a race by this rule contains all the information of a race by the other rule."""
        same = replace(self, candidates=other.candidates, finalists=other.finalists) == other
        return same and self.candidates >= other.candidates and self.finalists >= other.finalists

    @property
    def trials(self) -> float:
        """The cost of a race that is not widened, in full trainings."""
        return self.candidates * self.first_part + self.finalists * (1 - self.first_part)


@dataclass(frozen=True)
class Candidate:
    """One learning rate of a race.

    Attributes:
        lr: The learning rate.
        outcome: waiting, dropped, finished, diverged, oom or failed.
        select_losses: Pairs of number of updates and loss on select. The loss is None if it is not finite.
        error: Type, message and traceback if the training did not complete.
    """

    lr: float
    outcome: str = WAITING
    select_losses: Sequence[tuple[int, float | None]] = ()
    error: dict[str, str] | None = None

    @property
    def lowest(self) -> float | None:
        """The lowest loss on select so far, or None if none is finite."""
        return min((loss for _, loss in self.select_losses if loss is not None and math.isfinite(loss)), default=None)

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key: the better candidate comes first, and the lower rate among equals."""
        return math.inf if self.lowest is None else self.lowest, self.lr


@dataclass(frozen=True)
class Stage:
    """What a race trains next.

    Attributes:
        rates: The learning rates to train.
        part: Share of the schedule up to which they train.
    """

    rates: tuple[float, ...]
    part: float


@dataclass(frozen=True)
class Race:
    """The state of a race between two stages.

    Attributes:
        rule: The rule that the race follows.
        published: The published learning rate, around which the candidates lie.
        candidates: All candidates, by rising rate.
        of: The cell that ran the race, if this cell takes its rate from another one.
    """

    rule: Rule
    published: float
    candidates: tuple[Candidate, ...] = field(default=())
    of: str | None = None

    @classmethod
    def begin(cls, rule: Rule, published: float) -> Self:
        """Return a race in which nothing has been trained yet."""
        return cls(rule, published, tuple(map(Candidate, rule.rates(published))))

    @property
    def lr(self) -> float | None:
        """The winning rate. None before the end, and if no candidate finished with a finite loss."""
        if self.stage is not None:
            return None
        finished = [entry for entry in self.candidates if entry.outcome == FINISHED and entry.lowest is not None]
        return min(finished, key=lambda entry: entry.rank).lr if finished else None

    @property
    def stage(self) -> Stage | None:
        """The stage to train next, or None at the end."""
        waiting = [entry for entry in self.candidates if entry.outcome == WAITING]
        untried = tuple(entry.lr for entry in waiting if not entry.select_losses)
        if untried:
            return Stage(untried, self.rule.first_part)
        return Stage(tuple(entry.lr for entry in waiting), 1.0) if waiting else None

    @property
    def outcome(self) -> str:
        """The outcome in the race's record.

        It is "ok" with a winner and "interrupted" before the end. Otherwise it says why no candidate succeeded.
        """
        if self.stage is not None:
            return "interrupted"
        if self.lr is not None:
            return "ok"
        outcomes = {entry.outcome for entry in self.candidates}
        return next((outcome for outcome in ("oom", "failed", "diverged") if outcome in outcomes), "failed")

    @property
    def error(self) -> dict[str, str] | None:
        """Why no candidate succeeded: the middle one of the errors that match the race's outcome, by rate."""
        errors = [entry.error for entry in self.candidates if entry.error and entry.outcome == self.outcome]
        return errors[len(errors) // 2] if errors else None

    def after(self, stage: Stage, results: Mapping[float, Candidate]) -> "Race":
        """Return the race after a stage has been trained.

        Args:
            stage: The stage that was trained.
            results: The trained candidates by rate. Those that may train on have the outcome waiting.
        """
        updated = _with_candidates(self, [results.get(entry.lr, entry) for entry in self.candidates])
        if any(entry.outcome == WAITING and not entry.select_losses for entry in updated.candidates):
            return updated
        if stage.part < 1:
            added = _widening_candidate(updated)
            remaining = [*updated.candidates, added] if added else _keep_finalists(updated, WAITING)
            return _with_candidates(updated, remaining)
        ended = [
            replace(entry, outcome=FINISHED) if entry.lr in stage.rates and entry.outcome == WAITING else entry
            for entry in updated.candidates
        ]
        updated = _with_candidates(updated, ended)
        # If no finalist finished, the best of the dropped candidates train on.
        if any(entry.outcome == FINISHED for entry in ended):
            return updated
        return _with_candidates(updated, _keep_finalists(updated, DROPPED))

    def as_dict(self) -> dict[str, Any]:
        """Return the race as plain data for its record."""
        return {
            "rule": asdict(self.rule),
            "published": self.published,
            "lr": self.lr,
            "of": self.of,
            "candidates": [
                asdict(entry) | {"select_losses": [list(pair) for pair in entry.select_losses], "lowest": entry.lowest}
                for entry in self.candidates
            ],
        }

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read a race from a record.

        Args:
            data: The result of `as_dict`.

        Raises:
            ValueError: The data is not a race, or one of another version.
        """
        try:
            candidates = [
                Candidate(
                    float(entry["lr"]),
                    str(entry["outcome"]),
                    tuple((int(step), loss) for step, loss in entry["select_losses"]),
                    entry["error"],
                )
                for entry in data["candidates"]
            ]
            return cls(Rule(**data["rule"]), float(data["published"]), tuple(candidates), data.get("of"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a race of this version ({error!r})") from error


def _with_candidates(race: Race, candidates: Sequence[Candidate]) -> Race:
    return replace(race, candidates=tuple(sorted(candidates, key=lambda entry: entry.lr)))


def _widening_candidate(race: Race) -> Candidate | None:
    """Return a rate beyond the best one, or None if the best is not at an edge or enough rates have been added."""
    alive = [entry for entry in race.candidates if entry.outcome == WAITING]
    if not alive or len(race.candidates) >= race.rule.candidates + race.rule.widenings:
        return None
    best = min(alive, key=lambda entry: entry.rank)
    place = race.candidates.index(best)
    if place not in {0, len(race.candidates) - 1}:
        return None
    offset = round(math.log10(best.lr / race.published) / race.rule.apart)
    return Candidate(race.rule.rate(race.published, offset + (1 if place else -1)))


def _keep_finalists(race: Race, outcome: str) -> list[Candidate]:
    """Return all candidates. Of those with this outcome, the best wait for the next stage and the rest are dropped."""
    ranked = sorted((entry for entry in race.candidates if entry.outcome == outcome), key=lambda entry: entry.rank)
    finalists = {entry.lr for entry in ranked[: race.rule.finalists]}
    return [
        replace(entry, outcome=WAITING if entry.lr in finalists else DROPPED) if entry.outcome == outcome else entry
        for entry in race.candidates
    ]
