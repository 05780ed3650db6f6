"""The tables of scores, and TABLES, which lists every table. Each is a function over a study of comparable cells."""

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
    """Build the table of all cells with their size, cost, rate, score and outcome.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.
        before: Lines that go before the other notes.
    """
    cells, verdicts = study.cells, standings(study, study.cells)
    (peak_name, peak), spans = peak_of(cells), intervals_of(study, cells)
    body = pd.DataFrame(
        {
            **who(cells),
            "trainable": cells["trainable_params"].map(lambda value: text(value, "{:,.0f}")),
            "%": cells["trainable_percent"].map(lambda value: text(value, "{:.3f}")),
            peak_name: peak.map(lambda value: text(value, "{:,.0f}")),
            "samples/s": timed(cells, "samples_per_second", "{:,.0f}"),
            "lr": cells["lr"].map(lambda value: text(value, "{:g}")),
            "tuning": tuning_texts(cells),
            head_of(cells, metric): column(cells, metric, verdicts),
            **({"95%": cells["cell"].map(spans).map(span_text)} if metric == SCORE and spans else {}),
            **flags_column(cells),
            "outcome": cells["outcome"].map(text),
            "cell": cells["cell"],
        }
    )
    table = table_of("cells", study, cells, body)
    return replace(table, notes=[*before, *(interval_notes(cells) if "95%" in body else []), *table.notes])


def rank_by_target(study: Study, metric: str = SCORE) -> Table | None:
    """Build the counterpart of the LoRA paper's Table 6: weight types by rank, for each task.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if the cells have neither several ranks nor several targets.
    """
    cells = study.cells[study.cells["rank"].notna() & study.cells["target"].notna()]
    if max(len(cells["rank"].unique()), len(cells["target"].unique())) < 2:
        return None
    return pivoted("rank_by_target", study, cells, ["task", "method", "target"], metric)


def capacity(study: Study, metric: str = SCORE) -> Table | None:
    """Build the table of methods by their rank or number of virtual tokens.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if the cells have fewer than two ranks.
    """
    cells = study.cells[study.cells["rank"].notna()]
    if len(cells["rank"].unique()) < 2:
        return None
    return pivoted("capacity", study, cells, ["task", "method", "target"], metric)


def init(study: Study, metric: str = SCORE) -> Table | None:
    """Build the table of soft-prompt initialisations by number of virtual tokens.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.

    Returns:
        The table; None if there are fewer than two soft-prompt cells.
    """
    cells = study.cells[study.cells["family"].isin(SOFT) & study.cells["rank"].notna()]
    return pivoted("init", study, cells, ["task", "method"], metric) if len(cells) > 1 else None


def methods(study: Study, metric: str = SCORE) -> Table | None:
    """Build the counterpart of the LoRA paper's Table 2: methods by task, with the average over all tasks.

    Args:
        study: Comparable cells.
        metric: Column of the frame of cells to show.
    """
    cells, verdicts = study.cells, standings(study, study.cells)
    keys = [*SHORT, *varying(cells)]
    rows, headings = [], _headings(cells)
    tasks = cells["task"].nunique()
    # With several tasks a row stands for several cells, so tuning and flags have no single value.
    extra = {**tuning_column(cells), **flags_column(cells)} if tasks == 1 else {}
    extra = {name: dict(zip(cells["cell"], texts, strict=True)) for name, texts in extra.items()}
    for key, group in alike(cells, keys).items():
        by_task = {row["task"]: row for row in group}
        values = [row[metric] for row in by_task.values() if pd.notna(row[metric])]
        complete = len(values) == tasks
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "trainable": text(group[0]["trainable_params"], "{:,.0f}"),
                **{headings[task]: shown(row, metric, verdicts) for task, row in by_task.items()},
                **{name: texts[group[0]["cell"]] for name, texts in extra.items()},
                "average": number_text(sum(values) / len(values), metric) if complete else DASH,
            }
        )
    body = pd.DataFrame(rows, dtype=object).fillna(DASH)
    body = body[[name for name in body if name != "average"] + ["average"]]
    return table_of("methods", study, cells, body if tasks > 1 else body.drop(columns="average"))


def _headings(cells: pd.DataFrame) -> dict[str, str]:
    """Return the column heading of each task, with its metric if the tasks use different metrics."""
    if not several_metrics(cells):
        return {task: task for task in cells["task"]}
    return {str(task): f"{task} {metric_of(of_task).replace('_', ' ')} %" for task, of_task in cells.groupby("task")}


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
