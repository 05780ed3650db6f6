"""Which method, rank and target to take under limits, from what is recorded: the answer, how sure it is, what else."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

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
    """A cell's `column` may be at most so much; None: no limit. told: in people's words."""

    column: str
    most: float
    told: str


def limits_of(asked: Arguments) -> list[Limit]:
    """What the command line allows."""
    memory, params = asked.number("memory_gb", "gigabytes"), asked.number("params", "parameters")
    latency, minutes = asked.number("latency_ms", "milliseconds"), asked.number("minutes", "minutes")
    found = [
        Limit("needed", (memory or 0) * 1e9, f"{memory} GB of memory") if memory else None,
        Limit("trainable_params", params or 0, f"{params:,.0f} trained parameters" if params else "")
        if params
        else None,
        Limit("latency_adapted", (latency or 0) / 1000, f"{latency} ms for one answer") if latency else None,
        Limit("train_seconds", (minutes or 0) * 60, f"{minutes} minutes for one training") if minutes else None,
    ]
    return [limit for limit in found if limit is not None]


def recommend_cells(study: Study, limits: list[Limit]) -> tuple[str, Table | None]:
    """An answer for comparable cells, and the front that it was chosen from; None where there is nothing to choose."""
    cells = study.cells.assign(needed=needed_bytes(study.cells))
    where = f"{', '.join(cells['task'].unique())} with {', '.join(cells['model'].unique())}"
    known = cells[cells["select_score"].notna()]
    scored = known[is_tuned(known)]
    under = f" under {' and '.join(limit.told for limit in limits)}" if limits else ""
    if len(scored) < 2:
        return _cannot_tell(where, len(scored), len(known), len(cells)), None
    unknown = scored[[limit.column for limit in limits]].isna().any(axis=1)
    if any(limit.column in TIMED for limit in limits):
        unknown |= scored["contended"]
    fitting = scored[~unknown]
    for limit in limits:
        fitting = fitting[fitting[limit.column] <= limit.most]
    if fitting.empty:
        why = f"; of {unknown.sum()} the cost was not measured, or not undisturbed" if unknown.any() else ""
        return f"For {where} nothing that is recorded stays{under}{why}.", None
    said = [_answer(study, fitting, where, under), *_left_aside(int(unknown.sum()), len(known) - len(scored))]
    return " ".join(said), _front(study, fitting)


def _cannot_tell(where: str, tuned: int, scored: int, cells: int) -> str:
    """Why there is nothing to choose from."""
    lead = f"For {where} the records cannot tell: {scored} of {cells} cells have a score"
    if tuned == scored:
        return f"{lead}."
    return f"{lead}, and {tuned or 'none'} of them a tuned learning rate; {RETUNE}."


def _left_aside(unknown: int, untuned: int) -> list[str]:
    """How many cells had no part in the choice, and why."""
    lines = [f"Left aside, as their cost was not measured, or not undisturbed: {unknown} cells."] if unknown else []
    return lines + ([f"Left aside, as their learning rates are not tuned: {untuned} cells."] if untuned else [])


def _answer(study: Study, fitting: pd.DataFrame, where: str, under: str) -> str:
    ordered = fitting.sort_values(["select_score", "trainable_params"], ascending=[False, True])
    best = ordered.iloc[0]
    score = f"{100 * best['report_score']:.1f} % {metric_of(fitting).replace('_', ' ')} on the report part"
    said = [
        f"For {where}{under}: take {best['title']} at learning rate {text(best['lr'], '{:g}')}.",
        f"It is the best of {len(fitting)} cells on the select part, and has {score} (n = {best['seeds']}).",
    ]
    if len(ordered) > 1:
        said.append(_runner_up(study, best, ordered.iloc[1:]))
    else:
        said.append("It is the only one that fits, so nothing was compared.")
    if best["seeds"] < 3:
        said.append(f"With {best['seeds']} seed{'s' if best['seeds'] > 1 else ''} this is a weak answer: train three.")
    if len(fitting.loc[fitting["tuning"].notna(), "rates"].unique()) > 1 and not (fitting["tuning"] == TUNED).all():
        said.append("The cells had different numbers of learning rates to choose from, which favours those with more.")
    return " ".join([*said, *flag_sentences(best)])


def _runner_up(study: Study, best: "pd.Series[Any]", others: pd.DataFrame) -> str:
    """The next one, and the cheapest that cannot be told from the best."""
    second = others.iloc[0]
    found = difference(study, best, second)
    if found.interval is None:
        return f"The runner-up is {second['title']}; records without right answers cannot tell how sure that is."
    if found.p is None:
        return f"The runner-up is {second['title']}; {ONE_SEED}."
    if found.p <= LEVEL:
        how = "worse" if found.score > 0 else "better on the report part"
        return f"The runner-up, {second['title']}, is significantly {how} ({p_text(found)})."
    tied = [row for _, row in others.iterrows() if (difference(study, best, row).p or 0) > LEVEL]
    cheapest = min([*tied, best], key=lambda row: row["trainable_params"])
    cheaper = f"; the smallest such cell is {cheapest['title']}" if cheapest["cell"] != best["cell"] else ""
    return f"It cannot be told from the runner-up, {second['title']} ({p_text(found)}){cheaper}."


def _front(study: Study, fitting: pd.DataFrame) -> Table:
    """Those that no other beats in both score and trained parameters."""
    found = fitting[front(fitting, "trainable_params", "select_score")].sort_values("trainable_params")
    name, peak = peak_of(found)
    body = pd.DataFrame(
        {
            **who(found),
            "trainable": found["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
            name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(found, "samples_per_second", "{:,.0f}"),
            head_of(found, SCORE): column(found, "report_score", standings(study, found)),
            "cell": found["cell"],
        }
    )
    title = "What it was chosen from: no other cell has both a better score on select and fewer trained parameters"
    return Table("recommend", title, body, [], WORDS)
