"""What a run ends with: the table of its own cells, its time, the best cell of each table, and the next command."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

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


def show_run(manifest: Manifest, found: Sequence[Record], results: Path, console: Console) -> None:
    """Show a run from its manifest and the records of its own cells and trials."""
    study = Study.of(found) if found else None
    if study and not any(manifest.trials.values()) and (table := turns(study)):  # costs alone
        show(table, console)
        console.print(_facts(manifest), soft_wrap=True)
        return
    pages = show_cells(study, console) if study else []
    lines = [_facts(manifest), *(line for page in pages for line in _bests(page)), *_next(manifest, study, results)]
    for line in lines:
        console.print(line, soft_wrap=True)


def _facts(manifest: Manifest) -> str:
    trials = sum(map(len, manifest.trials.values()))
    size = f"{_count(len(manifest.trials), 'cell')}, {_count(trials, 'trial')}"
    ended = "not ended" if manifest.seconds is None else f"{_duration(manifest.seconds)}, exit code {manifest.exit}"
    return f"Run {manifest.id}: {manifest.shown}\n{size}; {ended}."


def _bests(page: TablePage) -> list[str]:
    """Of each table the best cell, what cannot be told from it and its flags; or why no cell is the best."""
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
            lines.append(f"No best cell of {where}. {unknown}".strip())
            continue
        ties = [str(row["title"]) for row in ranked if marks.get(row["cell"]) == TIED]
        score = f"{100 * best['report_score']:.1f} % {metric_of(scored).replace('_', ' ')} (n = {best['seeds']})"
        tied = f"Cannot be told from it: {some_of(ties)}." if ties else ""
        apart = "" if tied or unknown else "All others differ from it significantly."
        said = [f"Best of {where}: {best['title']}, {score}.", *flag_sentences(best), tied, unknown, apart]
        lines.append(" ".join(filter(None, said)))
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
        tuned = judged(study.cells[study.cells["table"] == key])
        if len(tuned) > 1:
            first, second = (f"{place}={row['cell']}" for place, row in zip("ab", _ranked(tuned), strict=False))
            compare = shlex.join([*REPORT, "compare", first, second, f"run={manifest.id}", *where])
            return [f"Next, compare the best two:  {compare}", whole]
    untuned = study.cells[study.cells["report_score"].notna() & ~is_tuned(study.cells)]
    return [*([f"Next, tune the learning rates:  {_tuning(manifest)}"] if len(untuned) else []), whole]


def _tuning(manifest: Manifest) -> str:
    """The command of a run without what kept it from tuning."""
    words = [word for word in manifest.command if word.partition("=")[0] != "lrs" and word != "protocol=smoke"]
    return replace(manifest, command=words).shown


def _unfinished(manifest: Manifest, study: Study) -> bool:
    """Whether the same command would try something again: a race or a trial that has no result, or a cost."""
    results = {one.trial["id"] for some in study.members.values() for one in some if one.trial and one.is_final}
    measured = {name for name, some in study.members.items() if any(one.kind == "probe" and one.cost for one in some)}
    trials = set().union(*manifest.trials.values())
    races = {name: race for name, some in study.members.items() if (race := race_of(some))}
    undecided = any(not race.is_final for race in races.values())
    unraced = any(not asked and name not in races for name, asked in manifest.trials.items())
    return undecided or unraced or not trials <= results or not set(manifest.trials) <= measured


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    """Seconds as people say them: 4.2 s, 9 min 12 s, 1 h 30 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
