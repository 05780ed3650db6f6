"""The learning rate behind a row of a table: its value, how it was found, and whether that allows a verdict.

The result of a method depends heavily on its learning rate. Verdicts are therefore limited to cells whose rate was
searched for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from bench.records.record import Record
from bench.report.tables.table import DASH

TUNED, PUBLISHED, ONE, SEVERAL = "tuned", "published", "one rate", "best of"
ENOUGH = 3  # rates to try before a verdict: fewer do not show on which side a better rate lies
WHOLE = 7  # candidates of the full tuning rule, as in conf/protocol/standard.yaml


@dataclass(frozen=True)
class Choice:
    """The learning rate of a row.

    Attributes:
        lr: The learning rate; None if nothing is trained, or if no rate is chosen.
        trials: The trials of the row, whatever their outcome.
        tuning: "tuned", "published", "one rate" or "best of N"; None if nothing is trained or recorded.
        tried: The rates it was chosen from, in ascending order.
    """

    lr: float | None
    trials: Sequence[Record]
    tuning: str | None
    tried: tuple[float, ...]

    @property
    def chosen(self) -> list[Record]:
        """The trials at the chosen rate."""
        return [trial for trial in self.trials if rate_of(trial) == self.lr]


def choice_of(members: Iterable[Record]) -> Choice:
    """Choose the learning rate of a cell.

    A decided race takes precedence, and trials at other rates then do not belong to the row. Without a decided race,
    the recorded rate with the best score on select is chosen.

    Args:
        members: The records of the cell.

    Returns:
        The rate, with the trials of the row.
    """
    records = list(members)
    trials = [record for record in records if record.trial]
    race = decided(records)
    if race is not None:
        lr = race["lr"]
        return Choice(lr, [trial for trial in trials if rate_of(trial) == lr], TUNED, rates_of(race))
    by_lr: dict[float | None, list[Record]] = {}
    for trial in trials:
        by_lr.setdefault(rate_of(trial), []).append(trial)
    tried = tuple(sorted(lr for lr in by_lr if lr is not None))
    return Choice(best_lr(by_lr), trials, _tuning(tried, trials), tried)


def race_of(members: Iterable[Record]) -> Record | None:
    """Return the record of a cell's race; None if there was no race."""
    return next((record for record in members if record.race is not None), None)


def decided(members: Iterable[Record]) -> dict[str, Any] | None:
    """Return the race of a cell if it has chosen a rate; otherwise None."""
    record = race_of(members)
    return record.race if record and record.race and record.race["lr"] is not None else None


def rates_of(race: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the learning rates of a race's candidates, in ascending order."""
    return tuple(sorted(candidate["lr"] for candidate in race["candidates"]))


def rate_of(trial: Record) -> float | None:
    """Return the learning rate of a trial; None if nothing is trained."""
    lr: float | None = (trial.trial or {})["lr"]
    return lr


def _tuning(tried: Sequence[float], trials: Iterable[Record]) -> str | None:
    if len(tried) > 1:
        return f"{SEVERAL} {len(tried)}"
    if not tried:
        return None
    return PUBLISHED if any(map(_is_published, trials)) else ONE


def _is_published(trial: Record) -> bool:
    """Whether a trial ran at the published rate of its method."""
    return trial.config.get("lrs") == PUBLISHED or rate_of(trial) == (trial.config.get("method") or {}).get("lr")


def best_lr(by_lr: Mapping[float | None, Sequence[Record]]) -> float | None:
    """Choose the learning rate with the best mean score on select. The report part is not used.

    The mean is over the seeds that all rates have in common. A rate with a failed seed (an outcome other than ok) is
    left out, because the mean of its other seeds would flatter it. If every rate has a failed seed, all compete. If
    several rates are equally good, the lowest is chosen.

    Args:
        by_lr: The trials by learning rate.

    Returns:
        The rate; None if no rate has a score, if the rates share no seed, or if nothing is trained.
    """
    by_seed = {
        lr: {_seed(trial): trial for trial in by_lr[lr] if trial.scores} for lr in sorted(by_lr, key=lambda lr: lr or 0)
    }
    scored = {lr: seeds for lr, seeds in by_seed.items() if seeds}
    complete = {lr: seeds for lr, seeds in scored.items() if all(trial.outcome == "ok" for trial in by_lr[lr])}
    competing = complete or scored
    common = set.intersection(*map(set, competing.values())) if competing else set()
    if not common:
        return None
    means = {lr: fmean(scores([seeds[seed] for seed in sorted(common)], "select")) for lr, seeds in competing.items()}
    return max(means, key=lambda lr: means[lr])


def _seed(record: Record) -> int:
    return int((record.trial or {})["seed"])


def scores(trials: Iterable[Record], part: str) -> list[float]:
    """Return the scores on a part, such as "select", of the trials that have scores."""
    return [record.scores[part] for record in trials if record.scores]


def is_tuned(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether each cell may have a verdict: its rate was searched for, or it has no rate.

    Args:
        cells: Rows with the columns `tuning` and `rates`.

    Returns:
        One boolean per row, with the index of `cells`.
    """
    allowed = [how_untuned(*row) is None for row in zip(cells["tuning"], cells["rates"], strict=True)]
    return pd.Series(allowed, cells.index, dtype=bool)


def how_untuned(tuning: Any, rates: int) -> str | None:
    """Describe the rates of a cell that may have no verdict, such as "at its published rate".

    Args:
        tuning: The cell's column `tuning`.
        rates: Number of rates tried.

    Returns:
        The description; None if the cell may have a verdict.
    """
    if pd.isna(tuning) or tuning == TUNED or (tuning.startswith(SEVERAL) and rates >= ENOUGH):
        return None
    return {PUBLISHED: "at its published rate", ONE: "at one rate, untuned"}.get(tuning, f"at {rates} rates, untuned")


def tuning_text(tuning: Any, rates: int) -> str:
    """Describe how a rate was found: `tuned (7 rates)`, `best of 5`, `published rate` or `one rate, untuned`.

    Args:
        tuning: The cell's column `tuning`.
        rates: Number of rates tried.

    Returns:
        The text for tables; a dash if nothing is trained or recorded.
    """
    if pd.isna(tuning):
        return DASH
    known = {TUNED: f"tuned ({rates} rates)", PUBLISHED: "published rate"}
    return known.get(tuning, tuning if how_untuned(tuning, rates) is None else f"{tuning}, untuned")
