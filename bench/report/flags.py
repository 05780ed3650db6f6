"""Flags for the doubts that a reviewer would raise about a cell's score. FLAGS explains each of them."""

import math
from statistics import fmean
from typing import Any

import pandas as pd

from bench.config.enums import Metric
from bench.report.tuning import ENOUGH, Choice, is_tuned

HEAD = "head"  # the method that trains only the head, a linear probe
EDGE, RISING, CONSTANT, BELOW_HEAD = "edge", "rising", "constant", "below head"
FLAGS = {
    EDGE: "the best learning rate is the lowest or the highest one tried, so a better one may lie beyond",
    RISING: "the loss on select was still falling at the end, so longer training may score better",
    CONSTANT: "a seed predicts one class for the whole report part",
    BELOW_HEAD: "it scores less than the tuned linear probe (method=head) of the same table",
}


def flags_of(choice: Choice, metric: str | None) -> str | None:
    """Find the flags that follow from a cell's own records.

    Args:
        choice: The cell's learning rate and trials.
        metric: The metric that the cell is scored by.

    Returns:
        The flags in the order of FLAGS, separated by commas; None if there are none.
    """
    flags = {
        EDGE: len(choice.tried) >= ENOUGH and choice.lr in {choice.tried[0], choice.tried[-1]},
        RISING: _is_rising(choice),
        CONSTANT: (metric is None or not Metric(metric).of_numbers) and any(map(_is_constant, choice.chosen)),
    }
    return ", ".join(name for name, is_set in flags.items() if is_set) or None


def with_head(cells: pd.DataFrame) -> pd.DataFrame:
    """Add the flag of cells that score less than the linear probe of their table.

    Cells that train nothing are not compared with the probe.

    Args:
        cells: One row per cell.

    Returns:
        The cells with the column `flags` extended.
    """
    probes = probe_scores(cells)
    below = [
        row["method"] != HEAD
        and pd.notna(row["tuning"])
        and pd.notna(row["report_score"])
        and row["report_score"] < probes.get(row["table"], -math.inf)
        for row in cells.to_dict("records")
    ]
    flags = [
        ", ".join([*listed(own), *([BELOW_HEAD] if is_below else [])]) or None
        for own, is_below in zip(cells["flags"], below, strict=True)
    ]
    return cells.assign(flags=pd.Series(flags, cells.index, dtype=object))


def probe_scores(cells: pd.DataFrame) -> dict[str, float]:
    """Find the score of the tuned linear probe of each table.

    Args:
        cells: One row per cell.

    Returns:
        The best probe's score, by table key. Tables without a tuned probe are absent.
    """
    probes = cells[(cells["method"] == HEAD) & is_tuned(cells) & cells["report_score"].notna()]
    return {str(key): float(score) for key, score in probes.groupby("table")["report_score"].max().items()}


def listed(flags: Any) -> list[str]:
    """Split the `flags` of a row into a list; empty if there are none."""
    return [] if pd.isna(flags) else str(flags).split(", ")


def _is_rising(choice: Choice) -> bool:
    """Whether the select loss fell by more than its standard error over the last quarter, by mean over seeds."""
    rises = [trial.scores["rise"] for trial in choice.chosen if trial.scores and trial.scores.get("rise")]
    known = [rise for rise in rises if None not in (rise["mean"], rise["standard_error"])]
    return bool(known) and fmean(rise["mean"] for rise in known) > fmean(rise["standard_error"] for rise in known)


def _is_constant(trial: Any) -> bool:
    answers = (trial.predictions or {}).get("report") or []
    return len(answers) > 1 and len(set(answers)) == 1
