"""The summary at the end of a run: the table of its cells, its time, the best cells, and the next command."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench.cli import counted
from bench.records.manifest import Manifest
from bench.records.record import Record
from bench.report.compare import flag_sentences
from bench.report.record_frame import Study
from bench.report.stats.ties import judged, some_of, standings, unknown_ties
from bench.report.tables.cost_turns import turns
from bench.report.tables.table import BEST, TIED, metric_of
from bench.report.tables.terminal import show
from bench.report.tuning import is_tuned, race_of
from bench.report.write import TablePage, show_cells

REPORT = ("python", "-m", "bench.report")


def show_run(manifest: Manifest, records: Sequence[Record], results: Path, console: Console) -> None:
    """Print the summary of a run.

    Args:
        manifest: The run.
        records: The records of its cells and trials.
        results: The folder of the records.
        console: Where the summary is printed.
    """
    study = Study.of(records) if records else None
    if study and not any(manifest.trials.values()) and (table := turns(study)):  # only costs were measured
        show(table, console)
        console.print(_facts(manifest), soft_wrap=True)
        return
    pages = show_cells(study, console) if study else []
    best_cells = [line for page in pages for line in _best_cells(page)]
    for line in [_facts(manifest), *best_cells, *_next_steps(manifest, study, results)]:
        console.print(line, soft_wrap=True)


def _facts(manifest: Manifest) -> str:
    """Return the run's id, command, size, time and exit code, in two lines."""
    trials = sum(map(len, manifest.trials.values()))
    size = f"{counted(len(manifest.trials), 'cell')}, {counted(trials, 'trial')}"
    ended = "not finished" if manifest.seconds is None else f"{_duration(manifest.seconds)}, exit code {manifest.exit}"
    return f"Run {manifest.id}: {manifest.shown}\n{size}; {ended}."


def _best_cells(page: TablePage) -> list[str]:
    """Return a line for each table: its best cell with flags and ties, or why there is no best cell."""
    lines = []
    for number, part in enumerate(page.parts, 1):
        scored = part.cells[part.cells["report_score"].notna()]
        if len(scored) < 2:
            continue
        where = f"{page.model} on {page.task}{f', table {number}' if len(page.parts) > 1 else ''}"
        unknown = " ".join(unknown_ties(part, part.cells))
        marks, ranked = standings(part, part.cells), _ranked(scored)
        best = next((row for row in ranked if marks.get(row["cell"]) == BEST), None)
        if best is None:
            lines.append(f"No best cell for {where}. {unknown}".strip())
            continue
        ties = [str(row["title"]) for row in ranked if marks.get(row["cell"]) == TIED]
        score = f"{100 * best['report_score']:.1f} % {metric_of(scored).replace('_', ' ')} (n = {best['seeds']})"
        tied = f"Not significantly different: {some_of(ties)}." if ties else ""
        no_ties = "" if tied or unknown else "All others differ from it significantly."
        sentences = [f"Best for {where}: {best['title']}, {score}.", *flag_sentences(best), tied, unknown, no_ties]
        lines.append(" ".join(filter(None, sentences)))
    return lines


def _ranked(scored: pd.DataFrame) -> list["pd.Series[Any]"]:
    """Return the rows by descending score on the report part."""
    return [row for _, row in scored.sort_values("report_score", ascending=False, kind="stable").iterrows()]


def _next_steps(manifest: Manifest, study: Study | None, results: Path) -> list[str]:
    """Suggest commands: finish the run; or compare or tune its cells, and render the report of all records."""
    where = [] if results == Path("results") else [f"results_dir={results}"]
    render = f"Next, render every table and the dashboard of all records:  {shlex.join([*REPORT, *where])}"
    if study is None or manifest.exit in {None, 130} or _unfinished(manifest, study):
        return [f"Next, train what is missing:  {manifest.shown}"]
    for key in dict.fromkeys(study.cells["table"]):
        tuned = judged(study.cells[study.cells["table"] == key])
        if len(tuned) > 1:
            first, second = (f"{place}={row['cell']}" for place, row in zip("ab", _ranked(tuned), strict=False))
            compare = shlex.join([*REPORT, "compare", first, second, f"run={manifest.id}", *where])
            return [f"Next, compare the best two:  {compare}", render]
    untuned = study.cells[study.cells["report_score"].notna() & ~is_tuned(study.cells)]
    return [*([f"Next, tune the learning rates:  {_tuning_run(manifest)}"] if len(untuned) else []), render]


def _tuning_run(manifest: Manifest) -> str:
    """Return the command of a run without the settings that kept it from tuning."""
    words = [word for word in manifest.command if word.partition("=")[0] != "lrs" and word != "protocol=smoke"]
    return replace(manifest, command=words).shown


def _unfinished(manifest: Manifest, study: Study) -> bool:
    """Whether the same command would run again a race, trial or cost measurement that has no final result."""
    finished = {
        record.trial["id"]
        for records in study.members.values()
        for record in records
        if record.trial and record.is_final
    }
    measured = {
        cell
        for cell, records in study.members.items()
        if any(record.kind == "probe" and record.cost for record in records)
    }
    trials = set().union(*manifest.trials.values())
    races = {cell: race for cell, records in study.members.items() if (race := race_of(records))}
    undecided = any(not race.is_final for race in races.values())
    unraced = any(not cell_trials and cell not in races for cell, cell_trials in manifest.trials.items())
    return undecided or unraced or not trials <= finished or not set(manifest.trials) <= measured


def _duration(seconds: float) -> str:
    """Format seconds for people: 4.2 s, 9 min 12 s, 1 h 30 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
