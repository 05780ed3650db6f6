"""Which learning rate a row of a table stands for, how it was found, and whether that allows a verdict.

Half of a method's reputation is its learning rate, so that only cells whose rate was searched for may be told apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from bench.records.record import Record
from bench.report.tables.table import DASH

TUNED, PUBLISHED, ONE, SEVERAL = "tuned", "published", "one rate", "best of"
ENOUGH = 3  # rates that must be tried for a verdict: fewer do not show on which side a better one lies
WHOLE = 7  # candidates of the whole rule, as in conf/protocol/standard.yaml


@dataclass(frozen=True)
class Choice:
    """The learning rate of a row."""

    lr: float | None  # None where nothing is trained, or none is chosen
    trials: Sequence[Record]  # of the row, whatever their outcome
    tuning: str | None  # tuned, published, one rate or "best of N"; None where nothing is trained, or recorded
    tried: tuple[float, ...]  # rates among which it was chosen, rising

    @property
    def chosen(self) -> list[Record]:
        """The trials at the rate."""
        return [one for one in self.trials if rate_of(one) == self.lr]


def choice_of(members: Iterable[Record]) -> Choice:
    """The rate of a cell from its records.

    A decided race goes before everything: trials at other rates are not of the row. Without one, the best of the
    recorded rates on select is taken.
    """
    found = list(members)
    trials = [one for one in found if one.trial]
    race = decided(found)
    if race is not None:
        lr = race["lr"]
        return Choice(lr, [one for one in trials if rate_of(one) == lr], TUNED, rates_of(race))
    by_lr: dict[float | None, list[Record]] = {}
    for one in trials:
        by_lr.setdefault(rate_of(one), []).append(one)
    tried = tuple(sorted(lr for lr in by_lr if lr is not None))
    return Choice(best_lr(by_lr), trials, _tuning(tried, trials), tried)


def race_of(members: Iterable[Record]) -> Record | None:
    """The record of a cell's race; None where none was held."""
    return next((one for one in members if one.race is not None), None)


def decided(members: Iterable[Record]) -> dict[str, Any] | None:
    """The race of a cell, where it has found a rate."""
    record = race_of(members)
    return record.race if record and record.race and record.race["lr"] is not None else None


def rates_of(race: Mapping[str, Any]) -> tuple[float, ...]:
    """The candidates of a race, rising."""
    return tuple(sorted(one["lr"] for one in race["candidates"]))


def rate_of(trial: Record) -> float | None:
    """The learning rate of a trial; None where nothing is trained."""
    lr: float | None = (trial.trial or {})["lr"]
    return lr


def _tuning(tried: Sequence[float], trials: Iterable[Record]) -> str | None:
    if len(tried) > 1:
        return f"{SEVERAL} {len(tried)}"
    if not tried:
        return None
    return PUBLISHED if any(map(_is_published, trials)) else ONE


def _is_published(trial: Record) -> bool:
    """Whether a trial ran at the rate that its method's authors used."""
    return trial.config.get("lrs") == PUBLISHED or rate_of(trial) == (trial.config.get("method") or {}).get("lr")


def best_lr(by_lr: Mapping[float | None, Sequence[Record]]) -> float | None:
    """The best learning rate on select by mean over the seeds that all rates have; the report part has no say.

    A rate that lost a seed (an outcome other than ok) is left out, as the mean of the others would flatter it; where
    every rate did, all compete. Of equal rates the lowest is taken. None: the rates share no seed, or none has a score.
    """
    found = {lr: {_seed(one): one for one in by_lr[lr] if one.scores} for lr in sorted(by_lr, key=lambda lr: lr or 0)}
    scored = {lr: seeds for lr, seeds in found.items() if seeds}
    whole = {lr: seeds for lr, seeds in scored.items() if all(one.outcome == "ok" for one in by_lr[lr])}
    competing = whole or scored
    common = set.intersection(*map(set, competing.values())) if competing else set()
    if not common:
        return None
    means = {lr: fmean(scores([seeds[seed] for seed in sorted(common)], "select")) for lr, seeds in competing.items()}
    return max(means, key=lambda lr: means[lr])


def _seed(record: Record) -> int:
    return int((record.trial or {})["seed"])


def scores(trials: Iterable[Record], part: str) -> list[float]:
    """The scores of the trials that have one."""
    return [record.scores[part] for record in trials if record.scores]


def is_tuned(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Whether verdicts may be given on each cell: its rate was searched for, or it has none."""
    found = [how_untuned(*row) is None for row in zip(cells["tuning"], cells["rates"], strict=True)]
    return pd.Series(found, cells.index, dtype=bool)


def how_untuned(tuning: Any, rates: int) -> str | None:
    """At which rates a cell was trained that allows no verdict, in words; None where it does."""
    if pd.isna(tuning) or tuning == TUNED or (tuning.startswith(SEVERAL) and rates >= ENOUGH):
        return None
    return {PUBLISHED: "at its published rate", ONE: "at one rate, untuned"}.get(tuning, f"at {rates} rates, untuned")


def tuning_text(tuning: Any, rates: int) -> str:
    """How a rate was found, for tables: `tuned (7 rates)`, `best of 5`, `published rate`, `one rate, untuned`."""
    if pd.isna(tuning):
        return DASH
    known = {TUNED: f"tuned ({rates} rates)", PUBLISHED: "published rate"}
    return known.get(tuning, tuning if how_untuned(tuning, rates) is None else f"{tuning}, untuned")
