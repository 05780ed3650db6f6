"""The table of races: every candidate's lowest loss on select, and what became of it."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.record_frame import Study
from bench.report.tables.entries import SCORE, WORDS, title_of, who
from bench.report.tables.notes import mixture
from bench.report.tables.rate_notes import rate_rules
from bench.report.tables.table import BEST, DASH, Entry, Table, text
from bench.report.tuning import race_of

DROPPED = "dropped"
MEANING = (
    "Columns: rates as multiples of the published one. Lowest loss on select so far; in brackets: dropped after the "
    "first part of the schedule."
)


def rates(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - every table is called alike
    """The candidates of every race with their lowest loss on select, or why they have none."""
    races = {name: record.race for name, some in study.members.items() if (record := race_of(some)) and record.race}
    found = study.cells[study.cells["cell"].isin(races)]
    if found.empty:
        return None
    rows = [_row(races[name]) for name in found["cell"]]
    multiples = sorted({multiple for row in rows for multiple in row})
    body = pd.DataFrame(
        {
            **who(found, scored=False),
            "published": [text(races[name]["published"], "{:g}") for name in found["cell"]],
            "chosen": [text(races[name]["lr"], "{:g}") for name in found["cell"]],
            **{
                _head(one): pd.Series([row.get(one, DASH) for row in rows], found.index, dtype=object)
                for one in multiples
            },
        }
    )
    members = [record for name in found["cell"] for record in study.members[name] if record.kind == "race"]
    notes = [MEANING, *rate_rules(study, found), *mixture(members)]
    return Table("rates", title_of(study, found), body, notes, WORDS)


def _row(race: Mapping[str, Any]) -> dict[float, str]:
    """The candidates by the decades that they lie above the published rate."""
    return {_decades(one["lr"], race["published"]): _entry(one, race["lr"]) for one in race["candidates"]}


def _decades(lr: float, published: float) -> float:
    return round(math.log10(lr / published), 1)  # the rates themselves are rounded


def _head(decades: float) -> str:
    multiple = float(f"{10**decades:.2g}")
    return f"x{multiple:g}"


def _entry(candidate: Mapping[str, Any], chosen: float | None) -> Entry:
    lowest, outcome = candidate["lowest"], candidate["outcome"]
    if lowest is None or outcome not in {DROPPED, "waiting", "finished"}:
        return Entry(outcome.upper() if outcome != "waiting" else DASH)
    shown = f"{lowest:.3f}"
    return Entry(f"({shown})" if outcome == DROPPED else shown, BEST if candidate["lr"] == chosen else "")
