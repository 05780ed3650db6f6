"""What a referee would ask about a score, as flags of a cell: FLAGS names them with what each means."""

import math
from statistics import fmean
from typing import Any

import pandas as pd

from bench.config.enums import Metric
from bench.report.tuning import ENOUGH, Choice, is_tuned

HEAD = "head"  # the method that trains the head alone, a linear probe
EDGE, RISING, CONSTANT, BELOW_HEAD = "edge", "rising", "constant", "below head"
FLAGS = {
    EDGE: "the best learning rate is the lowest or the highest one tried, so a better one may lie beyond",
    RISING: "the loss on select was still falling at the end, so longer training may score better",
    CONSTANT: "a seed predicts one class for the whole report part",
    BELOW_HEAD: "it scores less than the tuned linear probe (method=head) of the same table",
}


def flags_of(choice: Choice, metric: str | None) -> str | None:
    """The flags that a cell's own records tell, in the order of FLAGS; None where there is none."""
    found = {
        EDGE: len(choice.tried) >= ENOUGH and choice.lr in {choice.tried[0], choice.tried[-1]},
        RISING: _is_rising(choice),
        CONSTANT: (metric is None or not Metric(metric).of_numbers) and any(map(_is_constant, choice.chosen)),
    }
    return ", ".join(name for name, is_set in found.items() if is_set) or None


def with_head(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with the flag that needs the linear probe of their table.

    What trains nothing has no head to compare with.
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
    """The score of the tuned linear probe by table, the best where there are several; none where none is recorded."""
    found = cells[(cells["method"] == HEAD) & is_tuned(cells) & cells["report_score"].notna()]
    return {str(key): float(score) for key, score in found.groupby("table")["report_score"].max().items()}


def listed(flags: Any) -> list[str]:
    """The flags of a row."""
    return [] if pd.isna(flags) else str(flags).split(", ")


def _is_rising(choice: Choice) -> bool:
    """Whether the fall of the select loss over the last quarter exceeds its standard error, by mean over seeds."""
    rises = [one.scores["rise"] for one in choice.chosen if one.scores and one.scores.get("rise")]
    known = [rise for rise in rises if None not in (rise["mean"], rise["standard_error"])]
    return bool(known) and fmean(one["mean"] for one in known) > fmean(one["standard_error"] for one in known)


def _is_constant(trial: Any) -> bool:
    answers = (trial.predictions or {}).get("report") or []
    return len(answers) > 1 and len(set(answers)) == 1
