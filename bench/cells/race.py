"""A cell's race for its learning rate: candidates, what becomes of each, and which one wins.

Every candidate trains a first part of the schedule on a seed that the report does not use, the best of them go on to
the end, and the lowest loss on select wins. What is decided here is decided from these losses alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from bench.config.schema import ProtocolConf

WAITING, DROPPED, FINISHED = "waiting", "dropped", "finished"


@dataclass(frozen=True)
class Rule:
    """How the learning rate of a cell is chosen."""

    candidates: int  # rates to begin with, an odd number or one more above the published rate than below
    finalists: int  # candidates that train to the end
    seed: int  # of the race; the report has others
    widenings: int = 2  # rates that may be added beyond the best one where it stands at an edge
    apart: float = 0.5  # decades between neighbours
    first_part: float = 1 / 2  # share of the schedule that every candidate trains; after a third some do not yet learn

    @classmethod
    def of(cls, protocol: ProtocolConf) -> Self | None:
        """The rule of a protocol; None where it does not tune."""
        if protocol.candidates is None:
            return None
        return cls(protocol.candidates, protocol.finalists, protocol.tune_seed)

    def rates(self, published: float) -> list[float]:
        """The rates to begin with, around the published one, rising; rounded to three digits."""
        below = (self.candidates - 1) // 2
        return [self.rate(published, place - below) for place in range(self.candidates)]

    def rate(self, published: float, place: int) -> float:
        """The rate that lies so many steps above the published one."""
        return float(f"{published * 10 ** (self.apart * place):.3g}")

    def covers(self, other: Self) -> bool:
        """Whether a race by this rule tells all that one by the other rule would."""
        same = replace(self, candidates=other.candidates, finalists=other.finalists) == other
        return same and self.candidates >= other.candidates and self.finalists >= other.finalists

    @property
    def trials(self) -> float:
        """What a race costs, in whole trainings, if it is not widened."""
        return self.candidates * self.first_part + self.finalists * (1 - self.first_part)


@dataclass(frozen=True)
class Candidate:
    """One learning rate of a race."""

    lr: float
    outcome: str = WAITING  # waiting, dropped, finished, diverged, oom or failed
    select_losses: Sequence[tuple[int, float | None]] = ()  # by number of updates; None: not finite
    error: dict[str, str] | None = None  # type, message and traceback where it did not come through

    @property
    def lowest(self) -> float | None:
        """The lowest loss on select so far; None where none is finite."""
        return min((loss for _, loss in self.select_losses if loss is not None and math.isfinite(loss)), default=None)

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts the better candidate first, and of equal ones the lower rate."""
        return math.inf if self.lowest is None else self.lowest, self.lr


@dataclass(frozen=True)
class Stage:
    """What a race trains next: these rates, up to this share of the schedule."""

    rates: tuple[float, ...]
    part: float


@dataclass(frozen=True)
class Race:
    """The state of a race between two stages."""

    rule: Rule
    published: float
    candidates: tuple[Candidate, ...] = field(default=())  # rising rates
    of: str | None = None  # the cell that held it, where another cell takes its rate

    @classmethod
    def begin(cls, rule: Rule, published: float) -> Self:
        """A race of which nothing is known."""
        return cls(rule, published, tuple(map(Candidate, rule.rates(published))))

    @property
    def lr(self) -> float | None:
        """The winner; None before the end, and where no candidate came to it."""
        if self.stage is not None:
            return None
        finished = [one for one in self.candidates if one.outcome == FINISHED and one.lowest is not None]
        return min(finished, key=lambda one: one.rank).lr if finished else None

    @property
    def stage(self) -> Stage | None:
        """What is to be trained next; None at the end."""
        waiting = [one for one in self.candidates if one.outcome == WAITING]
        untried = tuple(one.lr for one in waiting if not one.select_losses)
        if untried:
            return Stage(untried, self.rule.first_part)
        return Stage(tuple(one.lr for one in waiting), 1.0) if waiting else None

    @property
    def outcome(self) -> str:
        """What the record of the race says: ok, interrupted before the end, or why no candidate came through."""
        if self.stage is not None:
            return "interrupted"
        if self.lr is not None:
            return "ok"
        outcomes = {one.outcome for one in self.candidates}
        return next((outcome for outcome in ("oom", "failed", "diverged") if outcome in outcomes), "failed")

    @property
    def error(self) -> dict[str, str] | None:
        """Why no candidate came through: the error of the published rate's neighbourhood, or of the first."""
        errors = [one.error for one in self.candidates if one.error and one.outcome == self.outcome]
        return errors[len(errors) // 2] if errors else None

    def after(self, stage: Stage, results: Mapping[float, Candidate]) -> "Race":
        """The race once a stage has been trained. results: by rate; those that are alive are waiting."""
        new = _holding(self, [results.get(one.lr, one) for one in self.candidates])
        if any(one.outcome == WAITING and not one.select_losses for one in new.candidates):
            return new
        if stage.part < 1:
            added = _beyond(new)
            return _holding(new, [*new.candidates, added] if added else _shortened(new, WAITING))
        ended = [
            replace(one, outcome=FINISHED) if one.lr in stage.rates and one.outcome == WAITING else one
            for one in new.candidates
        ]
        new = _holding(new, ended)
        # Where no finalist came to the end, the best of those that were dropped go on.
        return new if any(one.outcome == FINISHED for one in ended) else _holding(new, _shortened(new, DROPPED))

    def told(self) -> dict[str, Any]:
        """The race as its record has it."""
        return {
            "rule": asdict(self.rule),
            "published": self.published,
            "lr": self.lr,
            "of": self.of,
            "candidates": [
                asdict(one) | {"select_losses": [list(pair) for pair in one.select_losses], "lowest": one.lowest}
                for one in self.candidates
            ],
        }

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """The race that a record tells. ValueError: it is none."""
        try:
            candidates = [
                Candidate(
                    float(one["lr"]),
                    str(one["outcome"]),
                    tuple((int(step), loss) for step, loss in one["select_losses"]),
                    one["error"],
                )
                for one in told["candidates"]
            ]
            return cls(Rule(**told["rule"]), float(told["published"]), tuple(candidates), told.get("of"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a race of this version ({error!r})") from error


def _holding(race: Race, candidates: Sequence[Candidate]) -> Race:
    return replace(race, candidates=tuple(sorted(candidates, key=lambda one: one.lr)))


def _beyond(race: Race) -> Candidate | None:
    """A rate beyond the best one; None where that does not stand at an edge, or enough were added."""
    alive = [one for one in race.candidates if one.outcome == WAITING]
    if not alive or len(race.candidates) >= race.rule.candidates + race.rule.widenings:
        return None
    best = min(alive, key=lambda one: one.rank)
    place = race.candidates.index(best)
    if place not in {0, len(race.candidates) - 1}:
        return None
    offset = round(math.log10(best.lr / race.published) / race.rule.apart)
    return Candidate(race.rule.rate(race.published, offset + (1 if place else -1)))


def _shortened(race: Race, outcome: str) -> list[Candidate]:
    """The candidates, of which the best with an outcome wait for the next stage and the others with it are dropped."""
    ranked = sorted((one for one in race.candidates if one.outcome == outcome), key=lambda one: one.rank)
    go_on = {one.lr for one in ranked[: race.rule.finalists]}
    return [
        replace(one, outcome=WAITING if one.lr in go_on else DROPPED) if one.outcome == outcome else one
        for one in race.candidates
    ]
