"""Which of some cells is best, and which cannot be told from it, by paired tests on their predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.report.frame import Study
from bench.report.paired import Pairs, pairs_of
from bench.report.statistics import interval
from bench.report.table import BEST, TIED


def predictions_of(study: Study, cell: "pd.Series[Any]", part: str = "report") -> NDArray[Any] | None:
    """Of the trials at the chosen rate, by seed: [seeds, examples]; None where there are none."""
    rate = None if pd.isna(cell["lr"]) else cell["lr"]
    trials = [one for one in study.members[cell["cell"]] if one.trial and one.trial["lr"] == rate and one.predictions]
    ordered = sorted(trials, key=lambda one: (one.trial or {})["seed"])
    found = [one.predictions[part] for one in ordered if one.predictions]
    return np.array(found) if found and len({len(row) for row in found}) == 1 else None


def truth_of(study: Study, cells: pd.DataFrame) -> NDArray[Any] | None:
    """The right answers to the report part that the cells share; None where no record has them."""
    known = [study.truth[name]["report"] for name in cells["cell"] if name in study.truth]
    return np.array(known[0]) if known else None


def standings(study: Study, cells: pd.DataFrame) -> dict[str, str]:
    """BEST or TIED by cell id, within each group of comparable cells; nothing for those that are worse.

    Where the truth was not recorded, only the best is known, and nothing is said of ties.
    """
    found: dict[str, str] = {}
    for _, group in cells[cells["report_score"].notna()].groupby("table"):
        if len(group) > 1:
            pairs, best = (
                pairs_in(study, group),
                str(group["cell"].iloc[int(group["report_score"].to_numpy().argmax())]),
            )
            found |= {**dict.fromkeys(pairs.tied if pairs else (), TIED), best: BEST}
    return found


def pairs_in(study: Study, group: pd.DataFrame) -> Pairs | None:
    """The paired tests of comparable cells by id, worked out once; None where there are no two to be tested."""
    family = frozenset(group["cell"])
    if family not in study.tested:
        study.tested[family] = _tested(study, group)
    return study.tested[family]


def _tested(study: Study, group: pd.DataFrame) -> Pairs | None:
    truth = truth_of(study, group)
    rows = {str(cell["cell"]): predictions_of(study, cell) for _, cell in group.iterrows()}
    able = {
        name: row for name, row in rows.items() if row is not None and truth is not None and row.shape[1] == len(truth)
    }
    return pairs_of(able, truth, str(group["metric"].iloc[0])) if truth is not None and len(able) > 1 else None


def interval_of(study: Study, cell: "pd.Series[Any]") -> tuple[float, float] | None:
    """95% of the mean over seeds; None where the truth or the predictions are not recorded."""
    truth, found = truth_of(study, cell.to_frame().T), predictions_of(study, cell)
    if truth is None or found is None or found.shape[1] != len(truth):
        return None
    return interval(found, truth, str(cell["metric"]))


def unknown_ties(study: Study, cells: pd.DataFrame) -> Sequence[str]:
    """The note of a table whose ties are not known."""
    scored = cells[cells["report_score"].notna()]
    if len(scored) < 2 or truth_of(study, scored) is not None:
        return []
    return ["Ties are not marked: these records hold no right answers (trials recorded before they were kept)."]
