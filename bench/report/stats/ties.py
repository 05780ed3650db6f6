"""Which of some cells is best, and which cannot be told from it, by paired tests on their predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.report.record_frame import Study
from bench.report.stats.pairwise import Pairs, pairs_of
from bench.report.stats.variances import intervals
from bench.report.tables.table import BEST, TIED
from bench.report.tuning import how_untuned, is_tuned

ONE_SEED = "with one seed there is no test between methods; train at least three"
UNTUNED = "A difference may be one of learning rates"
RETUNE = "rerun the command without lrs= (and without protocol=smoke) to tune"
MOST = 8  # names in a line


def some_of(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")


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
    """BEST or TIED by cell id, within each group of comparable cells; nothing for those that are worse, or not tuned.

    Any two cells have one verdict, whichever of their table's cells are shown. Where the truth was not recorded, or
    with one seed, only the best is known, and nothing is said of ties.
    """
    found: dict[str, str] = {}
    for key, group in judged(cells).groupby("table"):
        if len(group) > 1:
            pairs = pairs_in(study, str(key))
            best = str(group["cell"].iloc[int(group["report_score"].to_numpy().argmax())])
            found |= {**dict.fromkeys(pairs.tied(group["cell"]) if pairs else (), TIED), best: BEST}
    return found


def judged(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that verdicts are about: they have a score, and a rate that was searched for (or none)."""
    return cells[cells["report_score"].notna() & is_tuned(cells)]


def pairs_in(study: Study, key: str) -> Pairs | None:
    """The paired tests of the tuned cells of a table by id, worked out once; None where there are no two to be tested.

    Args:
        study: all cells that verdicts take into account.
        key: of the table, as the column `table` has it.
    """
    group = judged(study.cells[study.cells["table"] == key])
    family = frozenset(group["cell"])
    if family not in study.tested:
        study.tested[family] = _tested(study, group)
    return study.tested[family]


def _tested(study: Study, group: pd.DataFrame) -> Pairs | None:
    truth, able = _able(study, group)
    return pairs_of(able, truth, str(group["metric"].iloc[0])) if truth is not None and len(able) > 1 else None


def intervals_of(study: Study, cells: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """95% interval of the mean score by cell id, worked out once; none where truth or predictions are not recorded."""
    waiting = cells[cells["report_score"].notna() & ~cells["cell"].isin(study.intervals)]
    for _, group in waiting.groupby("table"):
        truth, able = _able(study, group)
        if truth is not None and able:
            found = intervals(list(able.values()), truth, str(group["metric"].iloc[0]))
            study.intervals.update(zip(able, found, strict=True))
    return {name: study.intervals[name] for name in cells["cell"] if name in study.intervals}


def interval_notes(cells: pd.DataFrame) -> list[str]:
    """What the intervals of these cells are over."""
    counts = cells.loc[cells["report_score"].notna(), "seeds"]
    if (counts > 1).all():
        return ["95%: t interval over seeds and examples."]
    if (counts > 1).any():
        return ["95%: t interval over seeds and examples; with one seed over examples, this trained model only."]
    return ["95%: t interval over examples, this trained model only: other seeds score differently."]


def with_intervals(study: Study) -> pd.DataFrame:
    """The cells with the edges of their intervals as report_low and report_high, right of report_std."""
    known, cells = intervals_of(study, study.cells), study.cells.copy()
    behind = list(cells).index("report_std") + 1
    for place, edge in enumerate(("report_low", "report_high")):
        values = [known[name][place] if name in known else None for name in cells["cell"]]
        cells.insert(behind + place, edge, pd.Series(values, dtype="float64"))
    return cells


def _able(study: Study, group: pd.DataFrame) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]:
    """The truth that comparable cells share, and the predictions of those that answer all of it, by id."""
    truth = truth_of(study, group)
    rows = {str(cell["cell"]): predictions_of(study, cell) for _, cell in group.iterrows()}
    fits = {
        name: row for name, row in rows.items() if row is not None and truth is not None and row.shape[1] == len(truth)
    }
    return truth, fits


def unknown_ties(study: Study, cells: pd.DataFrame) -> Sequence[str]:
    """The notes of a table whose verdicts are not known, or not all of them."""
    scored, tested = cells[cells["report_score"].notna()], judged(cells)
    if len(scored) < 2:
        return []
    return [*untuned_notes(scored), *(_untested(study, tested) if len(tested) > 1 else [])]


def _untested(study: Study, tested: pd.DataFrame) -> list[str]:
    if truth_of(study, tested) is None:
        return ["Ties are not marked: these records hold no right answers (trials recorded before they were kept)."]
    single = tested.loc[tested["seeds"] < 2, "title"]
    if len(single) == len(tested):
        return [f"Ties are not marked: {ONE_SEED}."]
    if len(single):
        return [f"Not tested: {some_of(list(single))}; {ONE_SEED}."]
    return []


def untuned_notes(scored: pd.DataFrame) -> list[str]:
    """Why there is no verdict on some of these cells, or on any of them, and what to do about it."""
    untuned = scored[~is_tuned(scored)]
    if untuned.empty:
        return []
    ways = [how_untuned(*row) for row in zip(untuned["tuning"], untuned["rates"], strict=True)]
    how = " or ".join(sorted({way for way in ways if way}))
    why = f"{UNTUNED}; {RETUNE}."
    if len(untuned) == len(scored):
        return [f"No verdicts, so no bold and no marks: each cell was trained {how}. {why}"]
    left = len(scored) - len(untuned)
    alone = " One tuned cell alone is not compared." if left == 1 else ""
    return [f"No verdict on {some_of(list(untuned['title']))}: each was trained {how}. {why}{alone}"]
