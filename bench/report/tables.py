"""The tables, each one function over a study of comparable cells: TABLES names them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from bench.report.costs import cost, outcomes, quantisation, retention
from bench.report.frame import Study
from bench.report.shown import (
    SCORE,
    SHORT,
    alike,
    column,
    head_of,
    number_text,
    pivoted,
    several_metrics,
    shown,
    span_text,
    table_of,
    varying,
    who,
)
from bench.report.standing import interval_notes, intervals_of, standings
from bench.report.table import DASH, Table, metric_of, peak_of, text, timed

SOFT = ("soft prompts",)
BUDGET = 1.1  # parameter counts within such a ratio are one budget


def cells(study: Study, metric: str = SCORE, before: Sequence[str] = ()) -> Table:
    """Every cell with its size, cost, rate, score and outcome. before: lines that go before the other notes."""
    found, judged = study.cells, standings(study, study.cells)
    (name, peak), spans = peak_of(found), intervals_of(study, found)
    body = pd.DataFrame(
        {
            **who(found),
            "trainable": found["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
            "%": found["trainable_percent"].map(lambda value: text(value, "{:.3f}")),
            name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(found, "samples_per_second", "{:,.0f}"),
            "lr": found["lr"].map(lambda value: text(value, "{:g}")),
            head_of(found, metric): column(found, metric, judged),
            **({"95%": found["cell"].map(spans).map(span_text)} if metric == SCORE and spans else {}),
            "outcome": found["outcome"].map(text),
            "cell": found["cell"],
        }
    )
    table = table_of("cells", study, found, body)
    return replace(table, notes=[*before, *(interval_notes(found) if "95%" in body else []), *table.notes])


def rank_by_target(study: Study, metric: str = SCORE) -> Table | None:
    """The LoRA paper's Table 6: weight types by rank, task by task."""
    found = study.cells[study.cells["rank"].notna() & study.cells["target"].notna()]
    if max(len(found["rank"].unique()), len(found["target"].unique())) < 2:
        return None
    return pivoted("rank_by_target", study, found, ["task", "method", "target"], metric)


def capacity(study: Study, metric: str = SCORE) -> Table | None:
    """Every method that has a rank, or a number of virtual tokens, by it."""
    found = study.cells[study.cells["rank"].notna()]
    if len(found["rank"].unique()) < 2:
        return None
    return pivoted("capacity", study, found, ["task", "method", "target"], metric)


def init(study: Study, metric: str = SCORE) -> Table | None:
    """What soft prompts start from, by their number of virtual tokens."""
    found = study.cells[study.cells["family"].isin(SOFT) & study.cells["rank"].notna()]
    return pivoted("init", study, found, ["task", "method"], metric) if len(found) > 1 else None


def target_at_budget(study: Study, metric: str = SCORE) -> Table | None:
    """The LoRA paper's Table 5: weight types at one budget of trained parameters, the rank following from it."""
    found = study.cells[study.cells["rank"].notna() & study.cells["target"].notna()]
    found = found[found["trainable_params"].notna()].assign(
        body=lambda one: one["trainable_params"] - one["head_params"].fillna(0)
    )
    found = found[found.groupby(["task", "method"])["target"].transform("nunique") > 1]
    groups = [
        group
        for _, one in found.groupby(["task", "method"])
        for group in _budgets(one)
        if len(group["target"].unique()) > 1
    ]
    if not groups:
        return None
    found = pd.concat(groups)
    judged = standings(study, found)
    body = pd.DataFrame(
        {
            "task": found["task"],
            **who(found),
            "trained below the head": found["body"].map(lambda value: text(value, "{:,.0f}")),
            head_of(found, metric): column(found, metric, judged),
        }
    )
    return table_of("target_at_budget", study, found, body)


def methods(study: Study, metric: str = SCORE) -> Table | None:
    """The LoRA paper's Table 2: methods by task, with the average over all tasks."""
    found, judged = study.cells, standings(study, study.cells)
    keys = [*SHORT, *varying(found)]
    rows, heads = [], _heads(found)
    tasks = found["task"].nunique()
    for key, group in alike(found, keys).items():
        by_task = {row["task"]: row for row in group}
        values = [row[metric] for row in by_task.values() if pd.notna(row[metric])]
        whole = len(values) == tasks
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "trainable": text(group[0]["trainable_params"], "{:,.0f}"),
                **{heads[task]: shown(row, metric, judged) for task, row in by_task.items()},
                "average": number_text(sum(values) / len(values), metric) if whole else DASH,
            }
        )
    body = pd.DataFrame(rows, dtype=object).fillna(DASH)
    body = body[[name for name in body if name != "average"] + ["average"]]
    return table_of("methods", study, found, body if len(found["task"].unique()) > 1 else body.drop(columns="average"))


def _heads(found: pd.DataFrame) -> dict[str, str]:
    """The columns of the tasks, with what each is scored by where that differs."""
    if not several_metrics(found):
        return {task: task for task in found["task"]}
    return {str(task): f"{task} {metric_of(cells).replace('_', ' ')} %" for task, cells in found.groupby("task")}


TABLES: dict[str, Callable[[Study, str], Table | None]] = {
    made.__name__: made
    for made in (
        cells,
        rank_by_target,
        target_at_budget,
        methods,
        cost,
        quantisation,
        capacity,
        init,
        retention,
        outcomes,
    )
}


def _budgets(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Cells of one method, cut where the next count of parameters is another budget."""
    ordered = found.sort_values("body")
    jumps = (ordered["body"].astype(float).pct_change().fillna(0) > BUDGET - 1).cumsum()
    return [group for _, group in ordered.groupby(jumps)]
