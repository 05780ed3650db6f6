"""What a run ends with: the table of its own cells, its time, the best cell of each table, and the next command."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench.manifest import Manifest
from bench.records import Record
from bench.report.beside import Page, show_cells
from bench.report.frame import Study
from bench.report.standing import some_of, standings, unknown_ties
from bench.report.table import BEST, TIED, metric_of

REPORT = ("python", "-m", "bench.report")


def show_run(manifest: Manifest, found: Sequence[Record], results: Path, console: Console) -> None:
    """Show a run from its manifest and the records of its own cells and trials."""
    study = Study.of(found) if found else None
    pages = show_cells(study, console) if study else []
    lines = [_facts(manifest), *(line for page in pages for line in _bests(page)), *_next(manifest, study, results)]
    for line in lines:
        console.print(line, soft_wrap=True)


def _facts(manifest: Manifest) -> str:
    trials = sum(map(len, manifest.trials.values()))
    size = f"{_count(len(manifest.trials), 'cell')}, {_count(trials, 'trial')}"
    ended = "not ended" if manifest.seconds is None else f"{_duration(manifest.seconds)}, exit code {manifest.exit}"
    return f"Run {manifest.id}: {manifest.shown}\n{size}; {ended}."


def _bests(page: Page) -> list[str]:
    """Of each table the best cell, and what cannot be told from it."""
    lines = []
    for number, part in enumerate(page.parts, 1):
        scored = part.cells[part.cells["report_score"].notna()]
        if len(scored) < 2:
            continue
        judged, ranked = standings(part, part.cells), _ranked(scored)
        best = next(row for row in ranked if judged.get(row["cell"]) == BEST)
        ties = [str(row["title"]) for row in ranked if judged.get(row["cell"]) == TIED]
        where = f"{page.model} on {page.task}{f', table {number}' if len(page.parts) > 1 else ''}"
        score = f"{100 * best['report_score']:.1f} % {metric_of(scored).replace('_', ' ')} (n = {best['seeds']})"
        unknown = " ".join(unknown_ties(part, part.cells))
        tied = f"Cannot be told from it: {some_of(ties)}." if ties else ""
        apart = "" if tied or unknown else "All others differ from it significantly."
        lines.append(" ".join(filter(None, [f"Best of {where}: {best['title']}, {score}.", tied, unknown, apart])))
    return lines


def _ranked(scored: pd.DataFrame) -> list["pd.Series[Any]"]:
    return [row for _, row in scored.sort_values("report_score", ascending=False, kind="stable").iterrows()]


def _next(manifest: Manifest, study: Study | None, results: Path) -> list[str]:
    """What a user would do now: finish the run, or look closer; and look at all that is recorded."""
    where = [] if results == Path("results") else [f"results_dir={results}"]
    whole = f"Next, render every table and the dashboard of all records:  {shlex.join([*REPORT, *where])}"
    if study is None or manifest.exit in {None, 130} or _unfinished(manifest, study):
        return [f"Next, train what is missing:  {manifest.shown}"]
    for key in dict.fromkeys(study.cells["table"]):
        scored = study.cells[(study.cells["table"] == key) & study.cells["report_score"].notna()]
        if len(scored) > 1:
            first, second = (f"{place}={row['cell']}" for place, row in zip("ab", _ranked(scored), strict=False))
            compare = shlex.join([*REPORT, "compare", first, second, f"run={manifest.id}", *where])
            return [f"Next, compare the best two:  {compare}", whole]
    return [whole]


def _unfinished(manifest: Manifest, study: Study) -> bool:
    """Whether the same command would try something again: a trial that has no result, or a cost."""
    results = {one.trial["id"] for some in study.members.values() for one in some if one.trial and one.is_final}
    measured = {name for name, some in study.members.items() if any(one.kind == "probe" and one.cost for one in some)}
    trials = set().union(*manifest.trials.values())
    return not trials <= results or not set(manifest.trials) <= measured


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 9 min 12 s, 1 h 30 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
