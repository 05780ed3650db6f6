"""Entry point: records to comparison tables, in the terminal and beside the records as Markdown and CSV.

python -m bench.report [results_dir=DIR] [model=NAME] [task=NAME] [method=NAME,NAME]
"""

import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from bench import records
from bench.records import Record
from bench.tables import caption, differences, display, fairness, grouped, tidy
from bench.terminal import show

FILTERS = ("model", "task", "method")


def cli(arguments: list[str] | None = None) -> int:
    """Render the tables. Gives 0; or 2 where the command line is wrong or no record can be shown."""
    console = Console(highlight=False, markup=False, emoji=False)
    complaints = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    try:
        results, wanted = parse(sys.argv[1:] if arguments is None else arguments)
        chosen = choose(list(records.read_all(results, complaints.print)), results, wanted)
        # A table of some methods must not take the place of the whole one.
        for path in render(chosen, results, console, write="method" not in wanted):
            console.print(f"rendered: {path}", soft_wrap=True)
    except ValueError as error:
        complaints.print(f"error: {error}")
        return 2
    return 0


def parse(arguments: list[str]) -> tuple[Path, dict[str, set[str]]]:
    """Read KEY=VALUE arguments. ValueError: an unknown key, or a folder that is not there."""
    results, wanted = Path("results"), {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "results_dir":
            results = Path(value).expanduser()
        elif key in FILTERS:
            wanted[key] = set(value.split(","))
        else:
            raise ValueError(f"{argument!r} is no setting; choose from results_dir=, {'=, '.join(FILTERS)}=")
    if not results.is_dir():
        raise ValueError(f"results_dir={results} is not a folder; run 'python -m bench.run' first")
    return results, wanted


def choose(found: list[Record], results: Path, wanted: dict[str, set[str]]) -> list[Record]:
    """The records that pass the filters, copies of one record once. ValueError: there are none."""
    passed = [record for record in found if all(record.cell[key] in names for key, names in wanted.items())]
    chosen = {(record.cell["model"], record.cell["id"], (record.trial or {}).get("id")): record for record in passed}
    if not chosen:
        raise ValueError(
            f"{len(found)} records in {results}, and none to show; run 'python -m bench.run' first, or widen the filter"
        )
    return list(chosen.values())


def render(chosen: list[Record], results: Path, console: Console, *, write: bool = True) -> list[Path]:
    """Print one table per model, task and protocol, and write those of a model and task beside their records."""
    written = []
    for (model, task), group in grouped(chosen, lambda record: (record.cell["model"], record.cell["task"])).items():
        pages, frames = [f"# {model} on {task}\n"], []
        tables = grouped(group, fairness)
        for number, members in enumerate(tables.values(), 1):
            frame = tidy(members)
            shown, notes = display(frame), f"{differences(list(tables), number)}{caption(members, frame)}"
            show(shown, f"{model} on {task}", notes, console)
            pages.append(f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{notes}\n")
            frames.append(frame.assign(table=number))
        if not write:
            continue
        folder = results / model / task
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text("\n".join(pages), encoding="utf-8")
        pd.concat(frames).to_csv(folder / "table.csv", index=False)
        written += [folder / "table.md", folder / "table.csv"]
    return written


if __name__ == "__main__":
    sys.exit(cli())
