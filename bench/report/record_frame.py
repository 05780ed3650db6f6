"""Turn records into a study: a frame of cells, a frame of trials, predictions and correct answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from bench.records.record import Record, first_line
from bench.report.cells import cells_of, grouped
from bench.report.stats.pairwise import Pairs

TRIAL_SECONDS = ("train_seconds", "eval_seconds")


@dataclass(frozen=True)
class Study:
    """The records of some cells, arranged for tables, figures and tests.

    Attributes:
        cells: One row per cell, see `cells_of`.
        trials: One row per trial, see `trials_of`.
        predictions: Predictions by trial id and part.
        truth: Correct answers by cell id and part, if the records have them.
        members: The records by cell id.
        tested: Cache of the paired tests, by family of cell ids (stats/ties.py).
        intervals: Cache of the 95% intervals of the scores, by cell id (stats/ties.py).
    """

    cells: pd.DataFrame
    trials: pd.DataFrame
    predictions: Mapping[str, Mapping[str, list[Any]]]
    truth: Mapping[str, Mapping[str, list[Any]]]
    members: Mapping[str, list[Record]]
    tested: dict[frozenset[str], Pairs | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Study":
        """Build a study from records.

        Args:
            records: Records of any cells. They are matched by the ids of cells and trials, not by folder. Of several
                copies one is kept, see `distinct`.

        Returns:
            The study.
        """
        unique = distinct(records)
        members = grouped(unique, lambda record: record.cell["id"])
        trials = [record for record in unique if record.trial]
        return cls(
            cells_of(members),
            trials_of(trials),
            {(trial.trial or {})["id"]: trial.predictions for trial in trials if trial.predictions},
            {cell: truth for cell, cell_records in members.items() if (truth := _truth(cell_records))},
            members,
        )

    def only(self, chosen: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> "Study":
        """Restrict the study to some of its cells.

        Args:
            chosen: Returns for each row of `cells` whether it is kept.

        Returns:
            The smaller study. It shares predictions, truth and cached tests with this one.
        """
        cells = self.cells[chosen(self.cells)].reset_index(drop=True)
        members = {cell: self.members[cell] for cell in cells["cell"]}
        trials = self.trials[self.trials["cell"].isin(cells["cell"])].reset_index(drop=True)
        return replace(self, cells=cells, trials=trials, members=members)


def distinct(records: Iterable[Record]) -> list[Record]:
    """Keep one record of each trial, probe and race.

    Args:
        records: Records, possibly with several copies.

    Returns:
        The records without duplicates. A final copy is preferred, then the newest, then the first in order.
    """
    kept: dict[tuple[str, str, str | None], Record] = {}
    for record in records:
        key = record.cell["id"], record.kind, (record.trial or {}).get("id")
        if key not in kept or _precedence(record) > _precedence(kept[key]):
            kept[key] = record
    return list(kept.values())


def _precedence(record: Record) -> tuple[bool, str]:
    return record.is_final, record.provenance.get("written") or ""


def trials_of(trials: Iterable[Record]) -> pd.DataFrame:
    """Build the frame of trials.

    Args:
        trials: Records of trials.

    Returns:
        One row per trial, with the columns TRIAL. `error` holds the first line of the error.
    """
    return pd.DataFrame([_trial(record) for record in trials], columns=[*TRIAL])


TRIAL = ("trial", "cell", "lr", "seed", "outcome", "error", "select", "report", "best_epoch", *TRIAL_SECONDS, "pack")


def _trial(record: Record) -> dict[str, Any]:
    scores, cost, trial = record.scores or {}, record.cost or {}, record.trial or {}
    return {
        "trial": trial["id"],
        "cell": record.cell["id"],
        "lr": trial["lr"],
        "seed": trial["seed"],
        "outcome": record.outcome,
        "error": first_line(record.error) or None,
        **{key: scores.get(key) for key in ("select", "report", "best_epoch")},
        **{key: cost.get(key) for key in (*TRIAL_SECONDS, "pack")},
    }


def _truth(members: list[Record]) -> Mapping[str, list[Any]] | None:
    return next((record.truth for record in members if record.truth), None)
