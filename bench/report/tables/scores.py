"""The tables, each one function over a study of comparable cells: TABLES names them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from bench.report.record_frame import Study
from bench.report.stats.ties import interval_notes, intervals_of, standings
from bench.report.tables.best_rates import best_rates
from bench.report.tables.budgets import methods_at_budget, target_at_budget
from bench.report.tables.cost_turns import turns
from bench.report.tables.costs import cost, outcomes, quantisation, retention
from bench.report.tables.entries import (
    SCORE,
    SHORT,
    alike,
    column,
    flags_column,
    head_of,
    number_text,
    pivoted,
    several_metrics,
    shown,
    span_text,
    table_of,
    tuning_column,
    tuning_texts,
    varying,
    who,
)
from bench.report.tables.races import rates
from bench.report.tables.table import DASH, Table, metric_of, peak_of, text, timed

SOFT = ("soft prompts",)


def all_cells(study: Study, metric: str = SCORE, before: Sequence[str] = ()) -> Table:
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
            "tuning": tuning_texts(found),
            head_of(found, metric): column(found, metric, judged),
            **({"95%": found["cell"].map(spans).map(span_text)} if metric == SCORE and spans else {}),
            **flags_column(found),
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


def methods(study: Study, metric: str = SCORE) -> Table | None:
    """The LoRA paper's Table 2: methods by task, with the average over all tasks."""
    found, judged = study.cells, standings(study, study.cells)
    keys = [*SHORT, *varying(found)]
    rows, heads = [], _heads(found)
    tasks = found["task"].nunique()
    told = {**tuning_column(found), **flags_column(found)} if tasks == 1 else {}  # else a row is more than one cell
    told = {name: dict(zip(found["cell"], texts, strict=True)) for name, texts in told.items()}
    for key, group in alike(found, keys).items():
        by_task = {row["task"]: row for row in group}
        values = [row[metric] for row in by_task.values() if pd.notna(row[metric])]
        whole = len(values) == tasks
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "trainable": text(group[0]["trainable_params"], "{:,.0f}"),
                **{heads[task]: shown(row, metric, judged) for task, row in by_task.items()},
                **{name: texts[group[0]["cell"]] for name, texts in told.items()},
                "average": number_text(sum(values) / len(values), metric) if whole else DASH,
            }
        )
    body = pd.DataFrame(rows, dtype=object).fillna(DASH)
    body = body[[name for name in body if name != "average"] + ["average"]]
    return table_of("methods", study, found, body if tasks > 1 else body.drop(columns="average"))


def _heads(found: pd.DataFrame) -> dict[str, str]:
    """The columns of the tasks, with what each is scored by where that differs."""
    if not several_metrics(found):
        return {task: task for task in found["task"]}
    return {str(task): f"{task} {metric_of(cells).replace('_', ' ')} %" for task, cells in found.groupby("task")}


TABLES: dict[str, Callable[[Study, str], Table | None]] = {
    "cells": all_cells,
    "rank_by_target": rank_by_target,
    "target_at_budget": target_at_budget,
    "methods": methods,
    "methods_at_budget": methods_at_budget,
    "rates": rates,
    "best_rates": best_rates,
    "cost": cost,
    "quantisation": quantisation,
    "capacity": capacity,
    "init": init,
    "retention": retention,
    "turns": turns,
    "outcomes": outcomes,
}
