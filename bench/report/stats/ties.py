"""Find the best cell and the cells not significantly worse, by paired tests on their predictions."""

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
UNTUNED = "A difference may come from the learning rates"
RETUNE = "rerun the command without lrs= (and without protocol=smoke) to tune"
MOST = 8  # names listed in a line, at most


def some_of(names: Sequence[str]) -> str:
    """Join the first names of a list, and say how many more there are."""
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")


def predictions_of(study: Study, cell: "pd.Series[Any]", part: str = "report") -> NDArray[Any] | None:
    """Return the predictions of a cell's trials at its chosen learning rate.

    Args:
        study: The records.
        cell: A row of the frame of cells.
        part: The part of the data that was predicted.

    Returns:
        Predictions in the order of the seeds, [seeds, examples]. None if there are none, or if their lengths differ.
    """
    rate = None if pd.isna(cell["lr"]) else cell["lr"]
    members = study.members[cell["cell"]]
    trials = [record for record in members if record.trial and record.trial["lr"] == rate and record.predictions]
    ordered = sorted(trials, key=lambda record: (record.trial or {})["seed"])
    predictions = [record.predictions[part] for record in ordered if record.predictions]
    return np.array(predictions) if predictions and len({len(row) for row in predictions}) == 1 else None


def truth_of(study: Study, cells: pd.DataFrame) -> NDArray[Any] | None:
    """Return the right answers of the report part that the cells share; None if no record has them."""
    known = [study.truth[name]["report"] for name in cells["cell"] if name in study.truth]
    return np.array(known[0]) if known else None


def standings(study: Study, cells: pd.DataFrame) -> dict[str, str]:
    """Find the best and the tied cells within each group of comparable cells.

    The verdict on two cells does not depend on which cells of their table are shown. If the right answers were not
    recorded, or with one seed, only the best cell is known and no cell is tied.

    Args:
        study: All cells that verdicts take into account.
        cells: The cells shown.

    Returns:
        BEST or TIED by cell id. Worse cells and untuned cells have no entry.
    """
    verdicts: dict[str, str] = {}
    for key, group in judged(cells).groupby("table"):
        if len(group) > 1:
            pairs = pairs_in(study, str(key))
            best = str(group["cell"].iloc[int(group["report_score"].to_numpy().argmax())])
            verdicts |= {**dict.fromkeys(pairs.tied(group["cell"]) if pairs else (), TIED), best: BEST}
    return verdicts


def judged(cells: pd.DataFrame) -> pd.DataFrame:
    """Select the cells that can get a verdict: they have a score, and a tuned learning rate or none."""
    return cells[cells["report_score"].notna() & is_tuned(cells)]


def pairs_in(study: Study, key: str) -> Pairs | None:
    """Return the paired tests of the tuned cells of a table. They are computed once and kept in the study.

    Args:
        study: All cells that verdicts take into account.
        key: Key of the table, as in the column `table`.

    Returns:
        The tests, with cells named by id. None if fewer than two cells have predictions.
    """
    group = judged(study.cells[study.cells["table"] == key])
    family = frozenset(group["cell"])
    if family not in study.tested:
        study.tested[family] = _test(study, group)
    return study.tested[family]


def _test(study: Study, group: pd.DataFrame) -> Pairs | None:
    truth, predictions = _truth_and_predictions(study, group)
    if truth is None or len(predictions) < 2:
        return None
    return pairs_of(predictions, truth, str(group["metric"].iloc[0]))


def intervals_of(study: Study, cells: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return the 95% intervals of mean scores by cell id. They are computed once and kept in the study.

    A cell has no interval if its right answers or predictions are not recorded.
    """
    missing = cells[cells["report_score"].notna() & ~cells["cell"].isin(study.intervals)]
    for _, group in missing.groupby("table"):
        truth, predictions = _truth_and_predictions(study, group)
        if truth is not None and predictions:
            edges = intervals(list(predictions.values()), truth, str(group["metric"].iloc[0]))
            study.intervals.update(zip(predictions, edges, strict=True))
    return {name: study.intervals[name] for name in cells["cell"] if name in study.intervals}


def interval_notes(cells: pd.DataFrame) -> list[str]:
    """Say which variation the intervals of these cells cover: seeds and examples, or examples alone."""
    counts = cells.loc[cells["report_score"].notna(), "seeds"]
    if (counts > 1).all():
        return ["95%: t interval over seeds and examples."]
    if (counts > 1).any():
        return ["95%: t interval over seeds and examples; with one seed, over examples for this trained model only."]
    return ["95%: t interval over examples for this trained model only: other seeds score differently."]


def with_intervals(study: Study) -> pd.DataFrame:
    """Return the cells with the edges of their intervals in report_low and report_high, right of report_std."""
    edges_of, cells = intervals_of(study, study.cells), study.cells.copy()
    first = list(cells).index("report_std") + 1
    for index, column in enumerate(("report_low", "report_high")):
        values = [edges_of[name][index] if name in edges_of else None for name in cells["cell"]]
        cells.insert(first + index, column, pd.Series(values, dtype="float64"))
    return cells


def _truth_and_predictions(study: Study, group: pd.DataFrame) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]:
    """Return the truth that comparable cells share, and by id the predictions of the cells that answer all of it."""
    truth = truth_of(study, group)
    by_id = {str(cell["cell"]): predictions_of(study, cell) for _, cell in group.iterrows()}
    complete = {
        name: rows
        for name, rows in by_id.items()
        if rows is not None and truth is not None and rows.shape[1] == len(truth)
    }
    return truth, complete


def unknown_ties(study: Study, cells: pd.DataFrame) -> Sequence[str]:
    """Return the notes of a table in which some or all verdicts are unknown."""
    scored, tuned = cells[cells["report_score"].notna()], judged(cells)
    if len(scored) < 2:
        return []
    return [*untuned_notes(scored), *(_untested_notes(study, tuned) if len(tuned) > 1 else [])]


def _untested_notes(study: Study, tuned: pd.DataFrame) -> list[str]:
    if truth_of(study, tuned) is None:
        return ["Ties are not marked: these records hold no right answers, as trials did not store them at the time."]
    single = tuned.loc[tuned["seeds"] < 2, "title"]
    if len(single) == len(tuned):
        return [f"Ties are not marked: {ONE_SEED}."]
    if len(single):
        return [f"Not tested: {some_of(list(single))}; {ONE_SEED}."]
    return []


def untuned_notes(scored: pd.DataFrame) -> list[str]:
    """Say why some or all of these cells have no verdict, and what to do about it."""
    untuned = scored[~is_tuned(scored)]
    if untuned.empty:
        return []
    ways = [how_untuned(*row) for row in zip(untuned["tuning"], untuned["rates"], strict=True)]
    how = " or ".join(sorted({way for way in ways if way}))
    why = f"{UNTUNED}; {RETUNE}."
    if len(untuned) == len(scored):
        return [f"No verdicts, so no bold and no marks: each cell was trained {how}. {why}"]
    tuned = len(scored) - len(untuned)
    alone = " The one tuned cell has nothing to be compared with." if tuned == 1 else ""
    return [f"No verdict on {some_of(list(untuned['title']))}: each was trained {how}. {why}{alone}"]
