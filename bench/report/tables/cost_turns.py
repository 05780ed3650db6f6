"""The table of costs that were measured in interleaved rounds, every cell once per round.

Cells are compared within a round, so a slow minute of the machine affects all of them alike.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from bench.records.record import Record
from bench.report.record_frame import Study
from bench.report.tables.entries import SCORE, WORDS, title_of, who
from bench.report.tables.notes import costs_elsewhere, mixture
from bench.report.tables.table import Table, peak_of, text, timed

MEANING = (
    "Ratio: samples/s divided by the first cell's in the same round; median, and lowest to highest round. Samples/s "
    "and memory are those of the median round."
)


def turns(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - all tables share one signature
    """Build the table of speeds relative to the first cell of the grid, for cells measured in interleaved rounds.

    Returns:
        The table; None if no cell was measured in interleaved rounds.
    """
    measured = {name: turns_of for name, members in study.members.items() if (turns_of := _turns(members))}
    cells = study.cells[study.cells["cell"].isin(measured)]
    if cells.empty:
        return None
    titles = dict(zip(study.cells["cell"], study.cells["title"], strict=True))
    firsts = [measured[cell]["first"] for cell in cells["cell"]]
    peak_name, peak = peak_of(cells)
    body = pd.DataFrame(
        {
            **who(cells, scored=False),
            "trainable": cells["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
            peak_name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(cells, "samples_per_second", "{:,.0f}"),
            "ratio": [_ratio(measured[cell]["ratios"]) for cell in cells["cell"]],
            "to": [titles.get(first, first) for first in firsts],
        }
    )
    probes = [record for cell in cells["cell"] for record in study.members[cell] if record.kind == "probe"]
    return Table(
        "turns", title_of(study, cells), body, [MEANING, *costs_elsewhere(cells), *mixture(probes)], (*WORDS, "to")
    )


def _turns(members: Sequence[Record]) -> Mapping[str, Any] | None:
    """Return what a cell's probe recorded about its rounds; None if it was not measured in rounds."""
    return next((record.cost["turns"] for record in members if record.cost and "turns" in record.cost), None)


def _ratio(ratios: Sequence[float]) -> str:
    """Format the ratios of all rounds as their median, lowest and highest value."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
