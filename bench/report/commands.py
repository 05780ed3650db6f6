"""What each command of the report does: COMMANDS names them."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.records import record as records
from bench.report.arguments import Arguments, select_records
from bench.report.comparable import comparable, with_key
from bench.report.record_frame import Study
from bench.report.run_summary import show_run
from bench.report.tables.formats import FORMATS
from bench.report.tables.scores import TABLES
from bench.report.tables.terminal import show
from bench.report.write import show_cells, write_all

RENDERED = ("table.md", "table.csv", "tables.md", "dashboard.html", "figures/*.*")  # beside the records
PUBLISHED = {"rank_by_target": "6", "target_at_budget": "5", "methods": "2"}  # the LoRA paper's tables beside ours


def tables(asked: Arguments, console: Console, complaints: Console) -> None:
    """One table in one format, or all: in the terminal, and beside the records."""
    found = select_records(asked, complaints.print)
    study = Study.of(found)
    name, form = asked.settings.get("table"), asked.settings.get("format", "markdown")
    metric = asked.settings.get("metric", "report_score")
    _check(study, name, form, metric)
    if name is None and not {"format", "metric"} & set(asked.settings):
        if asked.run and not asked.wanted:
            show_run(asked.run, found, asked.results, console)
            return
        pages = show_cells(study, console)
        if asked.filtered or asked.study:
            console.print(_unwritten(asked), soft_wrap=True)
        else:
            write_all(asked.results, study, pages, console)
        return
    made = [table for part in comparable(study) if (table := TABLES[name or "cells"](part, metric))]
    if not made:
        raise ValueError(
            f"table={name}: these records have nothing to compare in it; choose from {', '.join(_possible(study))}"
        )
    for table in made:
        console.print(FORMATS[form](table), soft_wrap=True, end="")
    if asked.settings.get("published") == "true":
        _published(name, form, console, study)


def _unwritten(asked: Arguments) -> str:
    """Why no file is written: what some records make must not replace what all of them made."""
    if asked.filtered:
        return "Nothing is written under a filter: without it the tables and the dashboard of all records are."
    return f"Nothing is written into a study; results_dir={asked.results} writes its tables anew."


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


def _published(name: str | None, form: str, console: Console, study: Study) -> None:
    """The paper's own values, in a table of their own, and its differences beside ours."""
    from bench.report.tables.contrasts import CONTRASTED, beside_paper
    from bench.report.tables.published import beside

    if name not in PUBLISHED:
        raise ValueError(f"published=true: no published table is like table={name}; choose from {', '.join(PUBLISHED)}")
    made = [beside(PUBLISHED[name])]
    if PUBLISHED[name] in CONTRASTED:
        made += [table for part in comparable(study) if (table := beside_paper(part, PUBLISHED[name]))]
    for table in made:
        console.print(f"\n{FORMATS[form](table)}", soft_wrap=True, end="")


def figures(asked: Arguments, console: Console, complaints: Console) -> None:
    """Write every figure, or one, for each part whose cells may be compared, beside their records.

    Under a filter they go to a folder that says it, so that they do not replace those of all records.
    """
    from bench.report.figures.figures import FIGURES, OVER_TASKS

    study, name = Study.of(select_records(asked, complaints.print)), asked.settings.get("figure")
    if name is not None and name not in {**FIGURES, **OVER_TASKS}:
        raise ValueError(f"figure={name} is unknown; choose from {', '.join([*FIGURES, *OVER_TASKS])}")
    places: list[tuple[Study, Path, dict[str, Any]]] = []
    own = Path("figures", asked.filtered)
    for (model, task), group in study.cells.groupby(["model", "task"]):
        parts = [with_key(study, key) for key in dict.fromkeys(group["table"])]
        places += [(part, asked.results / str(model) / str(task) / own, FIGURES) for part in parts]
    places += [(part, asked.results / part.cells["model"].iloc[0] / own, OVER_TASKS) for part in comparable(study)]
    written: set[Path] = set()
    for part, folder, drawn in places:
        for each in drawn if name is None else {name} & set(drawn):
            if (figure := drawn[each](part)) is not None:
                _draw(figure, folder / each, asked.settings.get("format", "svg"), written, console)
    if not written:
        raise ValueError("these records have nothing to draw; run more cells, or widen the filter")


def _draw(figure: Any, path: Path, form: str, written: set[Path], console: Console) -> None:
    """Write a figure; what has the same name already is of another protocol, and keeps it."""
    from bench.report.figures.layout import write_figure

    names = (path if number == 1 else path.with_name(f"{path.name}-{number}") for number in count(1))
    free = next(name for name in names if name not in written)
    written.add(free)
    console.print(f"rendered: {write_figure(figure, free, form)}", soft_wrap=True)


def compare(asked: Arguments, console: Console, complaints: Console) -> None:
    """Two cells: two sentences and a small table."""
    from bench.report.compare import compare_cells

    missing = [name for name in ("a", "b") if name not in asked.settings]
    if missing:
        raise ValueError(f"{missing[0]}= is missing: compare a=CELL b=CELL, by id, title or method")
    study = Study.of(select_records(asked, complaints.print))
    said, table = compare_cells(study, asked.settings["a"], asked.settings["b"])
    console.print(said, soft_wrap=True)
    show(table, console)


def recommend(asked: Arguments, console: Console, complaints: Console) -> None:
    """Which cell to take under limits, for every part whose cells may be compared."""
    from bench.report.recommend import limits_of, recommend_cells

    study, limits = Study.of(select_records(asked, complaints.print)), limits_of(asked)
    for key in dict.fromkeys(study.cells["table"]):
        said, table = recommend_cells(with_key(study, key), limits)
        console.print(said, soft_wrap=True)
        if table is not None:
            show(table, console)


def serve(asked: Arguments, console: Console, complaints: Console) -> None:
    """The dashboard on 127.0.0.1, made anew when records are added."""
    from bench.report.dashboard.dashboard import dashboard
    from bench.report.dashboard.serve import serve_dashboard

    port = asked.number("port", "a port")
    serve_dashboard(
        lambda: dashboard(Study.of(select_records(asked, complaints.print))),
        None if port is None else int(port),
        lambda line: console.print(line, soft_wrap=True),
    )


def wandb(asked: Arguments, console: Console, complaints: Console) -> None:
    """To W&B: the cells as a table, what is rendered of them as an artifact, and the workspace."""
    from bench.report.wandb.upload import upload
    from bench.report.wandb.workspace import save

    study = Study.of(select_records(asked, complaints.print))
    project = asked.settings.get("project", os.environ.get("WANDB_PROJECT", "peftgrid"))
    entity = asked.settings.get("entity", os.environ.get("WANDB_ENTITY"))
    upload(
        study, _rendered(asked), project=project, entity=entity, say=lambda line: console.print(line, soft_wrap=True)
    )
    save(project, entity, lambda line: console.print(line, soft_wrap=True))


def _rendered(asked: Arguments) -> list[Path]:
    """Files of these cells and no others: of a filter, only the figures that were drawn under it."""
    if asked.filtered:
        return [
            path for path in records.files_below(asked.results, "figures/*/*.*") if path.parent.name == asked.filtered
        ]
    return [path for name in RENDERED for path in records.files_below(asked.results, name)]


COMMANDS: dict[str, Callable[[Arguments, Console, Console], None]] = {
    "tables": tables,
    "figures": figures,
    "compare": compare,
    "recommend": recommend,
    "serve": serve,
    "wandb": wandb,
}
