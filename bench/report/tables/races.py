"""The table of races: the lowest loss on select and the outcome of every candidate."""

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
    "Columns: rates as multiples of the published rate. Entries: lowest loss on select so far; in brackets if dropped "
    "after the first part of the schedule."
)


def rates(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - all tables share one signature
    """Build the table of race candidates with their lowest loss on select, or the reason why they have none.

    Returns:
        The table; None if no cell has a race.
    """
    races = {
        name: record.race for name, members in study.members.items() if (record := race_of(members)) and record.race
    }
    cells = study.cells[study.cells["cell"].isin(races)]
    if cells.empty:
        return None
    rows = [_row(races[name]) for name in cells["cell"]]
    all_decades = sorted({decades for row in rows for decades in row})
    body = pd.DataFrame(
        {
            **who(cells, scored=False),
            "published": [text(races[name]["published"], "{:g}") for name in cells["cell"]],
            "chosen": [text(races[name]["lr"], "{:g}") for name in cells["cell"]],
            **{
                _heading(decades): pd.Series([row.get(decades, DASH) for row in rows], cells.index, dtype=object)
                for decades in all_decades
            },
        }
    )
    members = [record for name in cells["cell"] for record in study.members[name] if record.kind == "race"]
    notes = [MEANING, *rate_rules(study, cells), *mixture(members)]
    return Table("rates", title_of(study, cells), body, notes, WORDS)


def _row(race: Mapping[str, Any]) -> dict[float, str]:
    """Return the entries of a race's candidates by their distance from the published rate, in decades."""
    return {
        _decades(candidate["lr"], race["published"]): _entry(candidate, race["lr"]) for candidate in race["candidates"]
    }


def _decades(lr: float, published: float) -> float:
    return round(math.log10(lr / published), 1)  # rounded, because the recorded rates are rounded too


def _heading(decades: float) -> str:
    """Return the heading of a column, such as `x0.32`."""
    multiple = float(f"{10**decades:.2g}")
    return f"x{multiple:g}"


def _entry(candidate: Mapping[str, Any], chosen: float | None) -> Entry:
    """Format a candidate's lowest loss, or its outcome if it failed. The chosen rate is marked as best."""
    lowest, outcome = candidate["lowest"], candidate["outcome"]
    if lowest is None or outcome not in {DROPPED, "waiting", "finished"}:
        return Entry(outcome.upper() if outcome != "waiting" else DASH)
    loss = f"{lowest:.3f}"
    return Entry(f"({loss})" if outcome == DROPPED else loss, BEST if candidate["lr"] == chosen else "")
