"""The commands of the report, listed in COMMANDS.

Every command takes the parsed command line, the console for its output, and the console for complaints about records.
It raises ValueError if a setting is wrong, or if no record is left to show.
"""

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

RENDERED = ("table.md", "table.csv", "tables.md", "dashboard.html", "figures/*.*")  # files next to the records
# Our table: the table of the LoRA paper that is shown with it.
PUBLISHED = {"rank_by_target": "6", "target_at_budget": "5", "methods": "2"}


def tables(asked: Arguments, console: Console, complaints: Console) -> None:
    """Print one table in one format; or print the tables of cells, and write every table next to the records.

    Args:
        asked: The parsed command line.
        console: Where tables and paths are printed.
        complaints: Where unreadable records are reported.

    Raises:
        ValueError: A setting is unknown, no record is selected, or the table has nothing to compare.
    """
    selected = select_records(asked, complaints.print)
    study = Study.of(selected)
    name, form = asked.settings.get("table"), asked.settings.get("format", "markdown")
    metric = asked.settings.get("metric", "report_score")
    _check_settings(study, name, form, metric)
    if name is None and not {"format", "metric"} & set(asked.settings):
        if asked.run and not asked.wanted:
            show_run(asked.run, selected, asked.results, console)
            return
        pages = show_cells(study, console)
        if asked.filtered or asked.study:
            console.print(_why_unwritten(asked), soft_wrap=True)
        else:
            write_all(asked.results, study, pages, console)
        return
    rendered = [table for part in comparable(study) if (table := TABLES[name or "cells"](part, metric))]
    if not rendered:
        raise ValueError(
            f"table={name}: these records have nothing to compare in it; choose from {', '.join(_possible(study))}"
        )
    for table in rendered:
        console.print(FORMATS[form](table), soft_wrap=True, end="")
    if asked.settings.get("published") == "true":
        _print_published(name, form, console, study)


def _why_unwritten(asked: Arguments) -> str:
    """Explain why no file is written: files about some of the records must not replace those about all of them."""
    if asked.filtered:
        return "Nothing is written under a filter; without it the tables and the dashboard of all records are written."
    return f"Nothing is written into a study; to render its tables again, use results_dir={asked.results}."


def _check_settings(study: Study, name: str | None, form: str, metric: str) -> None:
    if name is not None and name not in TABLES:
        raise ValueError(f"table={name} is unknown; choose from {', '.join(TABLES)}")
    if form not in FORMATS:
        raise ValueError(f"format={form} is unknown; choose from {', '.join(FORMATS)}")
    numeric = [column for column in study.cells.select_dtypes("number") if column != "rank"]
    if metric not in numeric:
        raise ValueError(f"metric={metric} is unknown; choose from {', '.join(map(str, numeric))}")


def _possible(study: Study) -> list[str]:
    """Return the names of the tables that have something to compare."""
    return [name for name in TABLES if any(TABLES[name](part, "report_score") for part in comparable(study))]


def _print_published(name: str | None, form: str, console: Console, study: Study) -> None:
    """Print the paper's values as a table, and its differences next to ours."""
    from bench.report.tables.contrasts import CONTRASTED, against_paper
    from bench.report.tables.published import published_table

    if name not in PUBLISHED:
        raise ValueError(f"published=true: no published table matches table={name}; choose from {', '.join(PUBLISHED)}")
    rendered = [published_table(PUBLISHED[name])]
    if PUBLISHED[name] in CONTRASTED:
        rendered += [table for part in comparable(study) if (table := against_paper(part, PUBLISHED[name]))]
    for table in rendered:
        console.print(f"\n{FORMATS[form](table)}", soft_wrap=True, end="")


def figures(asked: Arguments, console: Console, complaints: Console) -> None:
    """Write every figure, or one figure, for each part whose cells may be compared.

    Files go next to the records. Under a filter they go to a folder named after it, so that they do not replace the
    figures of all records.

    Args:
        asked: The parsed command line.
        console: Where the paths are printed.
        complaints: Where unreadable records are reported.

    Raises:
        ValueError: The figure or format is unknown, no record is selected, or there is nothing to draw.
    """
    from bench.report.figures.figures import FIGURES, OVER_TASKS

    study, name = Study.of(select_records(asked, complaints.print)), asked.settings.get("figure")
    if name is not None and name not in {**FIGURES, **OVER_TASKS}:
        raise ValueError(f"figure={name} is unknown; choose from {', '.join([*FIGURES, *OVER_TASKS])}")
    places: list[tuple[Study, Path, dict[str, Any]]] = []
    subfolder = Path("figures", asked.filtered)
    for (model, task), group in study.cells.groupby(["model", "task"]):
        parts = [with_key(study, key) for key in dict.fromkeys(group["table"])]
        places += [(part, asked.results / str(model) / str(task) / subfolder, FIGURES) for part in parts]
    places += [
        (part, asked.results / part.cells["model"].iloc[0] / subfolder, OVER_TASKS) for part in comparable(study)
    ]
    written: set[Path] = set()
    for part, folder, available in places:
        for figure_name in available if name is None else {name} & set(available):
            if (figure := available[figure_name](part)) is not None:
                _draw(figure, folder / figure_name, asked.settings.get("format", "svg"), written, console)
    if not written:
        raise ValueError("these records have nothing to draw; run more cells, or widen the filter")


def _draw(figure: Any, path: Path, form: str, written: set[Path], console: Console) -> None:
    """Write a figure. If this run has used the name for another protocol, add a number to it."""
    from bench.report.figures.layout import write_figure

    candidates = (path if number == 1 else path.with_name(f"{path.name}-{number}") for number in count(1))
    unused = next(candidate for candidate in candidates if candidate not in written)
    written.add(unused)
    console.print(f"rendered: {write_figure(figure, unused, form)}", soft_wrap=True)


def compare(asked: Arguments, console: Console, complaints: Console) -> None:
    """Compare two cells in a few sentences and a small table.

    Args:
        asked: The parsed command line.
        console: Where the comparison is printed.
        complaints: Where unreadable records are reported.

    Raises:
        ValueError: A cell is missing from the command line, unknown, or not comparable with the other one.
    """
    from bench.report.compare import compare_cells

    missing = [name for name in ("a", "b") if name not in asked.settings]
    if missing:
        raise ValueError(f"{missing[0]}= is missing: compare a=CELL b=CELL, where CELL is an id, a title or a method")
    study = Study.of(select_records(asked, complaints.print))
    message, table = compare_cells(study, asked.settings["a"], asked.settings["b"])
    console.print(message, soft_wrap=True)
    show(table, console)


def recommend(asked: Arguments, console: Console, complaints: Console) -> None:
    """Recommend a cell within limits, for every part whose cells may be compared.

    Args:
        asked: The parsed command line.
        console: Where the recommendation is printed.
        complaints: Where unreadable records are reported.

    Raises:
        ValueError: A limit is not a number above 0, or no record is selected.
    """
    from bench.report.recommend import limits_of, recommend_cells

    study, limits = Study.of(select_records(asked, complaints.print)), limits_of(asked)
    for key in dict.fromkeys(study.cells["table"]):
        message, table = recommend_cells(with_key(study, key), limits)
        console.print(message, soft_wrap=True)
        if table is not None:
            show(table, console)


def serve(asked: Arguments, console: Console, complaints: Console) -> None:
    """Serve the dashboard on 127.0.0.1, and render it again when records are added.

    Args:
        asked: The parsed command line.
        console: Where the address is printed.
        complaints: Where unreadable records are reported.

    Raises:
        ValueError: The port is invalid or taken, or no record is selected.
    """
    from bench.report.dashboard.dashboard import dashboard
    from bench.report.dashboard.serve import serve_dashboard

    port = asked.number("port", "port number")
    serve_dashboard(
        lambda: dashboard(Study.of(select_records(asked, complaints.print))),
        None if port is None else int(port),
        lambda line: console.print(line, soft_wrap=True),
    )


def wandb(asked: Arguments, console: Console, complaints: Console) -> None:
    """Upload to W&B: the cells as a table, their rendered files as an artifact, and the workspace.

    Args:
        asked: The parsed command line.
        console: Where the outcome is printed.
        complaints: Where unreadable records are reported.

    Raises:
        ValueError: No record is selected, or the extra `workspace` is not installed.
    """
    from bench.report.wandb.upload import upload
    from bench.report.wandb.workspace import save

    study = Study.of(select_records(asked, complaints.print))
    project = asked.settings.get("project", os.environ.get("WANDB_PROJECT", "peftgrid"))
    entity = asked.settings.get("entity", os.environ.get("WANDB_ENTITY"))
    upload(
        study,
        _rendered_files(asked),
        project=project,
        entity=entity,
        say=lambda line: console.print(line, soft_wrap=True),
    )
    save(project, entity, lambda line: console.print(line, soft_wrap=True))


def _rendered_files(asked: Arguments) -> list[Path]:
    """Return the rendered files about exactly these cells. Under a filter these are only the figures drawn under it."""
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
