"""Recommend a recorded cell within limits: the answer, how certain it is, and the alternatives."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.cli import counted
from bench.report.arguments import Arguments
from bench.report.cells import TIMED
from bench.report.compare import difference, flag_sentences, p_text
from bench.report.record_frame import Study
from bench.report.stats.pareto import front
from bench.report.stats.ties import ONE_SEED, RETUNE, standings
from bench.report.stats.variances import LEVEL
from bench.report.tables.entries import SCORE, column, head_of, who
from bench.report.tables.table import Table, metric_of, needed_bytes, peak_of, text, timed
from bench.report.tuning import TUNED, is_tuned

WORDS = ("method", "target", "scale", "base", "optim", "tuning", "flags", "cell")


@dataclass(frozen=True)
class Limit:
    """An upper limit on a column of the cells.

    Attributes:
        column: The column, such as "trainable_params".
        most: Its largest allowed value, in the unit of the column.
        description: The limit in words, such as "8 GB of memory".
    """

    column: str
    most: float
    description: str


def limits_of(asked: Arguments) -> list[Limit]:
    """Read the limits from the command line.

    Args:
        asked: The parsed command line.

    Returns:
        The limits that were given; empty if there are none.

    Raises:
        ValueError: A limit is not a number above 0.
    """
    memory, params = asked.number("memory_gb", "gigabytes"), asked.number("params", "parameters")
    latency, minutes = asked.number("latency_ms", "milliseconds"), asked.number("minutes", "minutes")
    limits = [
        Limit("needed", (memory or 0) * 1e9, f"{memory} GB of memory") if memory else None,
        Limit("trainable_params", params or 0, f"{params:,.0f} trained parameters" if params else "")
        if params
        else None,
        Limit("latency_adapted", (latency or 0) / 1000, f"{latency} ms for one answer") if latency else None,
        Limit("train_seconds", (minutes or 0) * 60, f"{minutes} minutes for one training") if minutes else None,
    ]
    return [limit for limit in limits if limit is not None]


def recommend_cells(study: Study, limits: list[Limit]) -> tuple[str, Table | None]:
    """Recommend the cell with the best score on select within the limits.

    Args:
        study: Comparable cells.
        limits: All of them must be kept.

    Returns:
        The recommendation in words, and the table of the Pareto front it was chosen from. The table is None if there
        is nothing to choose from.
    """
    cells = study.cells.assign(needed=needed_bytes(study.cells))
    where = f"{', '.join(cells['task'].unique())} with {', '.join(cells['model'].unique())}"
    known = cells[cells["select_score"].notna()]
    scored = known[is_tuned(known)]
    under = f" under {' and '.join(limit.description for limit in limits)}" if limits else ""
    if len(scored) < 2:
        return _too_few_cells(where, len(scored), len(known), len(cells)), None
    unknown = scored[[limit.column for limit in limits]].isna().any(axis=1)
    if any(limit.column in TIMED for limit in limits):
        unknown |= scored["contended"]
    fitting = scored[~unknown]
    for limit in limits:
        fitting = fitting[fitting[limit.column] <= limit.most]
    if fitting.empty:
        why = (
            f"; the cost of {counted(unknown.sum(), 'cell')} was not measured, or was disturbed by other load"
            if unknown.any()
            else ""
        )
        return f"For {where} no recorded cell stays{under}{why}.", None
    sentences = [_answer(study, fitting, where, under), *_left_out(int(unknown.sum()), len(known) - len(scored))]
    return " ".join(sentences), _front(study, fitting)


def _too_few_cells(where: str, tuned: int, scored: int, cells: int) -> str:
    """Explain why there is nothing to choose from."""
    lead = f"For {where} there are too few cells to choose from: {counted(scored, 'scored cell')} of {cells}"
    if tuned == scored:
        return f"{lead}."
    return f"{lead}, and {tuned or 'none'} of them with a tuned learning rate; {RETUNE}."


def _left_out(unknown: int, untuned: int) -> list[str]:
    """Say how many cells were not considered, and why."""
    reasons = {
        "their cost was not measured or was disturbed by other load": unknown,
        "their learning rates are not tuned": untuned,
    }
    return [f"Left out, because {why}: {counted(number, 'cell')}." for why, number in reasons.items() if number]


def _answer(study: Study, fitting: pd.DataFrame, where: str, under: str) -> str:
    ordered = fitting.sort_values(["select_score", "trainable_params"], ascending=[False, True])
    best = ordered.iloc[0]
    score = f"{100 * best['report_score']:.1f} % {metric_of(fitting).replace('_', ' ')} on the report part"
    sentences = [
        f"For {where}{under}: take {best['title']} at learning rate {text(best['lr'], '{:g}')}.",
        f"It is the best of {counted(len(fitting), 'cell')} on the select part, and has {score} (n = {best['seeds']}).",
    ]
    if len(ordered) > 1:
        sentences.append(_runner_up(study, best, ordered.iloc[1:]))
    else:
        sentences.append("It is the only cell within the limits, so nothing was compared.")
    if best["seeds"] < 3:
        sentences.append(f"With {counted(best['seeds'], 'seed')} this is weak evidence: train at least three.")
    if len(fitting.loc[fitting["tuning"].notna(), "rates"].unique()) > 1 and not (fitting["tuning"] == TUNED).all():
        sentences.append(
            "The cells had different numbers of learning rates to choose from, which favours those with more."
        )
    return " ".join([*sentences, *flag_sentences(best)])


def _runner_up(study: Study, best: "pd.Series[Any]", others: pd.DataFrame) -> str:
    """Name the runner-up and, if the two do not differ significantly, the smallest cell tied with the best."""
    second = others.iloc[0]
    tested = difference(study, best, second)
    if tested.interval is None:
        return f"The runner-up is {second['title']}; the records hold no right answers, so this is not tested."
    if tested.p is None:
        return f"The runner-up is {second['title']}; {ONE_SEED}."
    if tested.p <= LEVEL:
        how = "worse" if tested.score > 0 else "better on the report part"
        return f"The runner-up, {second['title']}, is significantly {how} ({p_text(tested)})."
    tied = [row for _, row in others.iterrows() if (difference(study, best, row).p or 0) > LEVEL]
    cheapest = min([*tied, best], key=lambda row: row["trainable_params"])
    cheaper = f"; the smallest such cell is {cheapest['title']}" if cheapest["cell"] != best["cell"] else ""
    return f"It does not differ significantly from the runner-up, {second['title']} ({p_text(tested)}){cheaper}."


def _front(study: Study, fitting: pd.DataFrame) -> Table:
    """Return the table of the cells that no other cell beats in both score on select and trained parameters."""
    best = fitting[front(fitting, "trainable_params", "select_score")].sort_values("trainable_params")
    peak_name, peak = peak_of(best)
    body = pd.DataFrame(
        {
            **who(best),
            "trainable": best["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
            peak_name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(best, "samples_per_second", "{:,.0f}"),
            head_of(best, SCORE): column(best, "report_score", standings(study, best)),
            "cell": best["cell"],
        }
    )
    title = "What it was chosen from: no other cell has both a better score on select and fewer trained parameters"
    return Table("recommend", title, body, [], WORDS)
