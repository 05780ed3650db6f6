"""The table of costs that were measured in turns: ratios within a round, which a slow minute of the machine spares."""

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
    "Ratio: samples/s beside the first cell's in the same round; median, lowest and highest round. Samples/s and "
    "memory are those of the median round."
)


def turns(study: Study, metric: str = SCORE) -> Table | None:  # noqa: ARG001 - every table is called alike
    """Speed as a ratio to the first cell of the grid, for cells that were measured in turns."""
    measured = {name: one for name, some in study.members.items() if (one := _turns(some))}
    found = study.cells[study.cells["cell"].isin(measured)]
    if found.empty:
        return None
    titles = dict(zip(study.cells["cell"], study.cells["title"], strict=True))
    firsts = [measured[name]["first"] for name in found["cell"]]
    name, peak = peak_of(found)
    body = pd.DataFrame(
        {
            **who(found, scored=False),
            "trainable": found["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
            name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(found, "samples_per_second", "{:,.0f}"),
            "ratio": [_ratio(measured[one]["ratios"]) for one in found["cell"]],
            "to": [titles.get(first, first) for first in firsts],
        }
    )
    probes = [record for one in found["cell"] for record in study.members[one] if record.kind == "probe"]
    return Table(
        "turns", title_of(study, found), body, [MEANING, *costs_elsewhere(found), *mixture(probes)], (*WORDS, "to")
    )


def _turns(members: Sequence[Record]) -> Mapping[str, Any] | None:
    return next((one.cost["turns"] for one in members if one.cost and "turns" in one.cost), None)


def _ratio(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
