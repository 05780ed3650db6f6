"""Records to a study: a frame of cells, one of trials, and the predictions of every trial with the right answers."""

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
    """cells: one row per cell (see `cells_of`). trials: one row per trial. predictions: by trial id, by part. truth: by
    cell id, by part, where the records have it. members: by cell id, its records. tested: the paired tests of a family
    of cells, and intervals: of their scores, by cell id (standing.py), once they are worked out.
    """

    cells: pd.DataFrame
    trials: pd.DataFrame
    predictions: Mapping[str, Mapping[str, list[Any]]]
    truth: Mapping[str, Mapping[str, list[Any]]]
    members: Mapping[str, list[Record]]
    tested: dict[frozenset[str], Pairs | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Iterable[Record]) -> "Study":
        """Gather records by the ids of cells and trials, whatever their folders are called; see `distinct`."""
        records = distinct(found)
        members = grouped(records, lambda record: record.cell["id"])
        trials = [record for record in records if record.trial]
        return cls(
            cells_of(members),
            trials_of(trials),
            {(one.trial or {})["id"]: one.predictions for one in trials if one.predictions},
            {name: truth for name, some in members.items() if (truth := _truth(some))},
            members,
        )

    def only(self, chosen: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> "Study":
        """The part of a study whose cells are chosen."""
        cells = self.cells[chosen(self.cells)].reset_index(drop=True)
        members = {name: self.members[name] for name in cells["cell"]}
        trials = self.trials[self.trials["cell"].isin(cells["cell"])].reset_index(drop=True)
        return replace(self, cells=cells, trials=trials, members=members)


def distinct(found: Iterable[Record]) -> list[Record]:
    """Each trial, probe and race once: of several copies a final one goes first, then the newest, then the first."""
    kept: dict[tuple[str, str, str | None], Record] = {}
    for record in found:
        key = record.cell["id"], record.kind, (record.trial or {}).get("id")
        if key not in kept or _precedence(record) > _precedence(kept[key]):
            kept[key] = record
    return list(kept.values())


def _precedence(record: Record) -> tuple[bool, str]:
    return record.is_final, record.provenance.get("written") or ""


def trials_of(trials: Iterable[Record]) -> pd.DataFrame:
    """One row per trial, with the columns of TRIAL; error: its first line."""
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
