"""Print the tables of cells, and write every table and the dashboard next to the records."""

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
    """The cells of one model on one task.

    Attributes:
        model: Name of the model.
        task: Name of the task.
        parts: The cells by protocol; only cells of the same part may be compared.
        tables: The table of each part.
    """

    model: str
    task: str
    parts: Sequence[Study]
    tables: Sequence[Table]


def show_cells(study: Study, console: Console) -> list[TablePage]:
    """Print the table of cells of every model and task.

    Args:
        study: The cells.
        console: Where the tables are printed.

    Returns:
        The pages that were printed, one per model and task.
    """
    pages = []
    for (model, task), group in study.cells.groupby(["model", "task"]):
        keys = list(dict.fromkeys(group["table"]))
        parts, tables = [with_key(study, key) for key in keys], []
        for number, part in enumerate(parts, 1):
            protocol_note = what_differs(keys, number)
            tables.append(all_cells(part, before=[protocol_note] if protocol_note else []))
            show(tables[-1], console)
        pages.append(TablePage(str(model), str(task), parts, tables))
    return pages


def write_all(results: Path, study: Study, pages: Sequence[TablePage], console: Console) -> None:
    """Write the pages, the other tables and the dashboard, and print the path of each file.

    Args:
        results: The folder of the records.
        study: All its cells.
        pages: The tables of cells, from `show_cells`.
        console: Where the paths are printed.

    Raises:
        ValueError: A file cannot be written.
    """
    try:
        written = [path for page in pages for path in _write_page(results, page)]
        written += [*_write_other_tables(results, study), _write_dashboard(results, study)]
    except OSError as error:
        raise ValueError(
            f"{error.filename or results} cannot be written ({error.strerror}); a filter, such as task=, only prints"
        ) from error
    for path in written:
        console.print(f"rendered: {path}", soft_wrap=True)


def _write_page(results: Path, page: TablePage) -> list[Path]:
    folder = results / page.model / page.task
    text = "\n".join([f"# {page.model} on {page.task}\n", *map(markdown, page.tables)])
    frames = [
        with_intervals(part).drop(columns="table").assign(table=number) for number, part in enumerate(page.parts, 1)
    ]
    return [_write(folder / "table.md", text), _write(folder / "table.csv", pd.concat(frames).to_csv(index=False))]


def _write_other_tables(results: Path, study: Study) -> list[Path]:
    """Write one file per model with all tables but that of cells. Tables with nothing to compare are left out."""
    written = []
    for model in study.cells["model"].unique():
        parts = comparable(study.only(lambda cells, model=model: cells["model"] == model))  # type: ignore[misc]
        tables = [
            (name, table)
            for name in TABLES
            if name != "cells"
            for part in parts
            if (table := TABLES[name](part, "report_score"))
        ]
        if tables:
            sections = [f"## {name}: {table.title}\n\n{markdown(table)}" for name, table in tables]
            written.append(_write(results / str(model) / "tables.md", f"# {model}\n\n" + "\n".join(sections)))
    return written


def _write_dashboard(results: Path, study: Study) -> Path:
    from bench.report.dashboard.dashboard import dashboard

    return _write(results / "dashboard.html", dashboard(study))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
    return path
