"""What is written beside the records: every table, and the dashboard."""

from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.report.formats import markdown
from bench.report.frame import Study
from bench.report.notes import differences
from bench.report.parts import comparable, with_key
from bench.report.standing import with_intervals
from bench.report.tables import TABLES, cells
from bench.report.terminal import show


def render(results: Path, study: Study, console: Console, *, write: bool) -> None:
    """The table of cells for every model and task, shown; written too, with what else there is, where it may be.

    write: false where tables of some methods would take the place of the whole ones.
    """
    written = []
    for (model, task), group in study.cells.groupby(["model", "task"]):
        pages, frames, keys = [f"# {model} on {task}\n"], [], list(dict.fromkeys(group["table"]))
        for number, key in enumerate(keys, 1):
            part = with_key(study, key)
            apart = differences(keys, number)
            table = cells(part, before=[apart] if apart else [])
            show(table, console)
            pages.append(markdown(table))
            frames.append(with_intervals(part).drop(columns="table").assign(table=number))
        if write:
            folder = results / str(model) / str(task)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "table.md").write_text("\n".join(pages), encoding="utf-8")
            pd.concat(frames).to_csv(folder / "table.csv", index=False)
            written += [folder / "table.md", folder / "table.csv"]
    if write:
        written += [*_others(results, study), _dashboard(results, study)]
    for path in written:
        console.print(f"rendered: {path}", soft_wrap=True)


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
            path = results / str(model) / "tables.md"
            path.write_text(f"# {model}\n\n" + "\n".join(pages), encoding="utf-8")
            written.append(path)
    return written


def _dashboard(results: Path, study: Study) -> Path:
    from bench.report.dashboard import dashboard

    path = results / "dashboard.html"
    path.write_text(dashboard(study), encoding="utf-8")
    return path
