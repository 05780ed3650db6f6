"""The tables of cells, and what is written beside the records: every table, and the dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.files.atomic import replace_file
from bench.report.comparable import comparable, with_key
from bench.report.record_frame import Study
from bench.report.stats.ties import with_intervals
from bench.report.tables.formats import markdown
from bench.report.tables.notes import what_differs
from bench.report.tables.scores import TABLES, all_cells
from bench.report.tables.table import Table
from bench.report.tables.terminal import show


@dataclass(frozen=True)
class TablePage:
    """The cells of a model on a task."""

    model: str
    task: str
    parts: Sequence[Study]  # by protocol: only cells of one part may be compared
    tables: Sequence[Table]  # of each part


def show_cells(study: Study, console: Console) -> list[TablePage]:
    """Show the table of cells for every model and task. Returns what was shown."""
    pages = []
    for (model, task), group in study.cells.groupby(["model", "task"]):
        keys = list(dict.fromkeys(group["table"]))
        parts, tables = [with_key(study, key) for key in keys], []
        for number, part in enumerate(parts, 1):
            apart = what_differs(keys, number)
            tables.append(all_cells(part, before=[apart] if apart else []))
            show(tables[-1], console)
        pages.append(TablePage(str(model), str(task), parts, tables))
    return pages


def write_all(results: Path, study: Study, pages: Sequence[TablePage], console: Console) -> None:
    """Write the pages and what else there is, and name each file. ValueError: the folder cannot be written."""
    try:
        written = [path for page in pages for path in _page(results, page)]
        written += [*_others(results, study), _dashboard(results, study)]
    except OSError as error:
        raise ValueError(
            f"{error.filename or results} cannot be written ({error.strerror}); a filter, such as task=, only shows"
        ) from error
    for path in written:
        console.print(f"rendered: {path}", soft_wrap=True)


def _page(results: Path, page: TablePage) -> list[Path]:
    folder = results / page.model / page.task
    text = "\n".join([f"# {page.model} on {page.task}\n", *map(markdown, page.tables)])
    frames = [
        with_intervals(part).drop(columns="table").assign(table=number) for number, part in enumerate(page.parts, 1)
    ]
    return [_write(folder / "table.md", text), _write(folder / "table.csv", pd.concat(frames).to_csv(index=False))]


def _others(results: Path, study: Study) -> list[Path]:
    """Of every model, the tables that compare more than cells, where there is something to compare."""
    written = []
    for model in study.cells["model"].unique():
        parts = comparable(study.only(lambda cells, model=model: cells["model"] == model))  # type: ignore[misc]
        made = [
            (name, table)
            for name in TABLES
            if name != "cells"
            for part in parts
            if (table := TABLES[name](part, "report_score"))
        ]
        if made:
            pages = [f"## {name}: {table.title}\n\n{markdown(table)}" for name, table in made]
            written.append(_write(results / str(model) / "tables.md", f"# {model}\n\n" + "\n".join(pages)))
    return written


def _dashboard(results: Path, study: Study) -> Path:
    from bench.report.dashboard.dashboard import dashboard

    return _write(results / "dashboard.html", dashboard(study))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
    return path
