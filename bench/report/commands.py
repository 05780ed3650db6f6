"""What each command of the report does: COMMANDS names them."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.report.asked import Asked, chosen
from bench.report.formats import FORMATS, markdown
from bench.report.frame import Study
from bench.report.notes import differences
from bench.report.table import Table
from bench.report.tables import TABLES, cells
from bench.report.terminal import show

PUBLISHED = {"rank_by_target": "6", "target_at_budget": "5", "methods": "2"}  # the LoRA paper's tables beside ours


def tables(asked: Asked, console: Console, complaints: Console) -> None:
    """One table in one format, or all: in the terminal, and beside the records."""
    study = Study.of(chosen(asked, complaints.print))
    name, form = asked.settings.get("table"), asked.settings.get("format", "markdown")
    metric = asked.settings.get("metric", "report_score")
    _check(study, name, form, metric)
    if name is None and not {"format", "metric"} & set(asked.settings):
        _all(asked, study, console)
        return
    made = [table for part in comparable(study) if (table := TABLES[name or "cells"](part, metric))]
    if not made:
        raise ValueError(
            f"table={name}: these records have nothing to compare in it; choose from {', '.join(_possible(study))}"
        )
    for table in made:
        console.print(FORMATS[form](table), soft_wrap=True, end="")
    if asked.settings.get("published") == "true":
        _published(name, form, console)


def comparable(study: Study) -> list[Study]:
    """Parts whose cells may stand in one table: of each model, and of each task one protocol."""
    parts = []
    for _, of_model in study.cells.groupby("model"):
        keys = {task: list(dict.fromkeys(group["table"])) for task, group in of_model.groupby("task")}
        for number in range(max(map(len, keys.values()))):
            names = {one[number] for one in keys.values() if number < len(one)}
            parts.append(study.only(lambda cells, names=names: cells["table"].isin(names)))  # type: ignore[misc]
    return parts


def _all(asked: Asked, study: Study, console: Console) -> None:
    """The table of cells for every model and task, shown and written beside the records, with what else there is."""
    write = "method" not in asked.wanted  # tables of some methods must not take the place of the whole ones
    written = []
    for (model, task), group in study.cells.groupby(["model", "task"]):
        pages, frames, keys = [f"# {model} on {task}\n"], [], list(dict.fromkeys(group["table"]))
        for number, key in enumerate(keys, 1):
            part = _with_key(study, key)
            apart = differences(keys, number)
            table = cells(part, before=[apart] if apart else [])
            show(table, console)
            pages.append(markdown(table))
            frames.append(part.cells.drop(columns="table").assign(table=number))
        if write:
            folder = asked.results / str(model) / str(task)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "table.md").write_text("\n".join(pages), encoding="utf-8")
            pd.concat(frames).to_csv(folder / "table.csv", index=False)
            written += [folder / "table.md", folder / "table.csv"]
    if write:
        written += [*_others(asked.results, study), _dashboard(asked.results, study)]
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


def _check(study: Study, name: str | None, form: str, metric: str) -> None:
    if name is not None and name not in TABLES:
        raise ValueError(f"table={name} is unknown; choose from {', '.join(TABLES)}")
    if form not in FORMATS:
        raise ValueError(f"format={form} is unknown; choose from {', '.join(FORMATS)}")
    numeric = [column for column in study.cells.select_dtypes("number") if column != "rank"]
    if metric not in numeric:
        raise ValueError(f"metric={metric} is unknown; choose from {', '.join(map(str, numeric))}")


def _possible(study: Study) -> list[str]:
    return [name for name in TABLES if any(TABLES[name](part, "report_score") for part in comparable(study))]


def _published(name: str | None, form: str, console: Console) -> None:
    """The paper's own values, in a table of their own."""
    from bench.report.published import published

    if name not in PUBLISHED:
        raise ValueError(f"published=true: no published table is like table={name}; choose from {', '.join(PUBLISHED)}")
    found = published(PUBLISHED[name]).fillna("-").astype(str)
    sources = list(dict.fromkeys(found["source"])) if "source" in found else []
    table = Table("published", "Published values, not ours", found, [f"Source: {', '.join(sources)}."], tuple(found))
    console.print(f"\n{FORMATS[form](table)}", soft_wrap=True, end="")


def figures(asked: Asked, console: Console, complaints: Console) -> None:
    """Write every figure, or one, for each part whose cells may be compared, beside their records."""
    from bench.report.figures import FIGURES, write

    study, name = Study.of(chosen(asked, complaints.print)), asked.settings.get("figure")
    form, written = asked.settings.get("format", "svg"), 0
    if name is not None and name not in FIGURES:
        raise ValueError(f"figure={name} is unknown; choose from {', '.join(FIGURES)}")
    for _, of_task in study.cells.groupby(["model", "task"]):
        for number, key in enumerate(dict.fromkeys(of_task["table"]), 1):
            part = _with_key(study, key)
            folder = asked.results / part.cells["model"].iloc[0] / part.cells["task"].iloc[0] / "figures"
            for each in [name] if name else FIGURES:
                if (figure := FIGURES[each](part)) is not None:
                    written += 1
                    path = write(figure, folder / (each if number == 1 else f"{each}-{number}"), form)
                    console.print(f"rendered: {path}", soft_wrap=True)
    if not written:
        raise ValueError("these records have nothing to draw; run more cells, or widen the filter")


def compare(asked: Asked, console: Console, complaints: Console) -> None:
    """Two cells: two sentences and a small table."""
    from bench.report.compare import compare as compared

    missing = [name for name in ("a", "b") if name not in asked.settings]
    if missing:
        raise ValueError(f"{missing[0]}= is missing: compare a=CELL b=CELL, by id, title or method")
    study = Study.of(chosen(asked, complaints.print))
    said, table = compared(study, asked.settings["a"], asked.settings["b"])
    console.print(said, soft_wrap=True)
    show(table, console)


def recommend(asked: Asked, console: Console, complaints: Console) -> None:
    """Which cell to take under limits, for every part whose cells may be compared."""
    from bench.report.recommend import limits_of
    from bench.report.recommend import recommend as recommended

    study, limits = Study.of(chosen(asked, complaints.print)), limits_of(asked)
    for key in dict.fromkeys(study.cells["table"]):
        said, table = recommended(_with_key(study, key), limits)
        console.print(said, soft_wrap=True)
        if table is not None:
            show(table, console)


def serve(asked: Asked, console: Console, complaints: Console) -> None:
    """The dashboard on 127.0.0.1, made anew when records are added."""
    from bench.report.dashboard import dashboard
    from bench.report.serve import serve as served

    port = asked.number("port", "a port")
    served(
        lambda: dashboard(Study.of(chosen(asked, complaints.print))),
        None if port is None else int(port),
        lambda line: console.print(line, soft_wrap=True),
    )


def _with_key(study: Study, key: str) -> Study:
    """The cells of one model, task and protocol."""
    return study.only(lambda cells: cells["table"] == key)


COMMANDS: dict[str, Callable[[Asked, Console, Console], None]] = {
    made.__name__: made for made in (tables, figures, compare, recommend, serve)
}
