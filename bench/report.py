"""Entry point: records to comparison tables, in the terminal and beside the records as Markdown and CSV.

    python -m bench.report [results_dir=DIR] [model=NAME] [task=NAME] [method=NAME,NAME]
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import records
from bench.records import Record

FILTERS = ("model", "task", "method")
DASH = "-"
MIB = 2**20


def cli(arguments: list[str] | None = None) -> int:
    """Render the tables. Gives 0; or 2 where the command line is wrong or no record can be shown."""
    console, complaints = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        results, wanted = parse(sys.argv[1:] if arguments is None else arguments)
        found = list(records.read_all(results, lambda line: complaints.print(line, markup=False)))
        chosen = [record for record in found if all(record.cell[key] in names for key, names in wanted.items())]
        if not chosen:
            raise ValueError(
                f"{len(found)} records in {results}, and none to show; run 'python -m bench.run' first, or widen the filter"
            )
        for path in render(chosen, results, console):
            console.print(f"rendered: {path}", markup=False, soft_wrap=True)
    except ValueError as error:
        complaints.print(f"error: {error}", markup=False)
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


def render(chosen: list[Record], results: Path, console: Console) -> list[Path]:
    """Print one table per model, task and protocol, and write those of a model and task beside their records."""
    written = []
    for (model, task), group in _grouped(chosen, lambda record: (record.cell["model"], record.cell["task"])).items():
        folder = results / model / task
        folder.mkdir(parents=True, exist_ok=True)
        pages, frames = [f"# {model} on {task}\n"], []
        for members in _grouped(group, fairness).values():
            frame = tidy(members)
            shown, notes = display(frame), caption(members, frame)
            _print(shown, f"{model} on {task}", notes, console)
            pages.append(f"{shown.to_markdown(index=False, disable_numparse=True)}\n\n{notes}\n")
            frames.append(frame)
        (folder / "table.md").write_text("\n".join(pages), encoding="utf-8")
        pd.concat(frames).to_csv(folder / "table.csv", index=False)
        written += [folder / "table.md", folder / "table.csv"]
    return written


def fairness(record: Record) -> str:
    """What two cells must share to stand in one table: all of the identity but the method and its axes."""
    return json.dumps({key: value for key, value in record.identity.items() if key not in {"method", "rank", "target"}})


def tidy(members: list[Record]) -> pd.DataFrame:
    """One row per cell, sorted by method, rank and target. The learning rate is the best on select, by mean over seeds."""
    cells = _grouped(members, lambda record: record.cell["id"]).values()
    frame = pd.DataFrame([_row(cell) for cell in cells])
    return frame.sort_values(["method", "rank", "target"], na_position="first", ignore_index=True)


def _row(members: list[Record]) -> dict[str, Any]:
    cell = members[0].cell
    trials = [record for record in members if record.trial is not None]
    cost = next((record.cost for record in members if record.kind == "probe"), None) or {}
    by_lr = _grouped((record for record in trials if record.scores), lambda record: record.trial["lr"])  # type: ignore[index]
    best = max(by_lr, key=lambda lr: pd.Series(_scores(by_lr[lr], "select")).mean(), default=None)
    report = pd.Series(_scores(by_lr[best], "report") if best is not None and not cell["random"] else [], dtype=float)
    outcomes = Counter(record.outcome for record in trials)
    return {
        **{key: cell[key] for key in ("model", "task", "method", "rank", "target")},
        **{key: cost.get(key) for key in (
            "trainable_params", "trainable_percent", "peak_allocated_bytes", "peak_reserved_bytes", "peak_resident_bytes",
            "samples_per_second", "tokens_per_second", "step_seconds_median", "step_seconds_p95", "adapter_bytes",
        )},
        "lr": best,
        "lrs_tried": len({record.trial["lr"] for record in trials if record.trial}),
        "report_mean": report.mean() if len(report) else None,
        "report_std": report.std(ddof=1) if len(report) > 1 else None,
        "seeds": len(report),
        "outcome": ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()),
        "random": cell["random"],
        "cell": cell["id"],
    }


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it: text in every entry, a dash where there is nothing to say."""
    on_gpu = frame["peak_allocated_bytes"].notna().any()
    peak = frame["peak_allocated_bytes" if on_gpu else "peak_resident_bytes"]
    return pd.DataFrame({
        "method": frame["method"],
        "rank": frame["rank"].map(lambda value: _text(value, "{:.0f}")),
        "target": frame["target"].map(lambda value: _text(value, "{}")),
        "trainable": frame["trainable_params"].map(lambda value: _text(value, "{:,.0f}")),
        "%": frame["trainable_percent"].map(lambda value: _text(value, "{:.3f}")),
        "peak MiB" if on_gpu else "peak MiB (resident)": (peak / MIB).map(lambda value: _text(value, "{:,.0f}")),
        "samples/s": frame["samples_per_second"].map(lambda value: _text(value, "{:,.0f}")),
        "lr": frame["lr"].map(lambda value: _text(value, "{:g}")),
        "accuracy %": [_score(row) for row in frame.to_dict("records")],
        "outcome": frame["outcome"],
        "cell": frame["cell"],
    })


def caption(members: list[Record], frame: pd.DataFrame) -> str:
    """What the reader must know to trust the table."""
    config, provenance = members[0].config, members[0].provenance
    protocol = config["protocol"]
    sizes = [len(record.predictions["report"]) for record in members if record.predictions]
    tried = sorted({int(count) for count in frame["lrs_tried"] if count})
    best = frame["report_mean"].max()
    lines = [
        f"Mean +- standard deviation over n seeds. Learning rates tried per cell: {', '.join(map(str, tried)) or DASH}. "
        "Learning rate and checkpoint are chosen on the select part; the report part is shown.",
        f"Protocol: {protocol['epochs']} epochs of at most {protocol['train_rows'] or 'all'} rows, batch {protocol['batch']}, "
        f"weight decay {protocol['weight_decay']}, warm-up {protocol['warmup']}, clip {protocol['clip']}; "
        f"precision {config['precision']} ({provenance.get('dtype')} on {provenance.get('device_name')}). "
        "Cost is the probe's: one trial alone, warm steps.",
    ]
    if sizes and pd.notna(best):
        error = 100 * (best * (1 - best) / sizes[0]) ** 0.5
        lines.append(f"With {sizes[0]} report examples one standard error of an accuracy is about {error:.1f} points.")
    return "\n".join(lines)


def _print(shown: pd.DataFrame, title: str, notes: str, console: Console) -> None:
    table = Table(title=title, caption=notes, caption_justify="left")
    for column in shown:
        table.add_column(column, justify="left" if column in {"method", "target", "outcome", "cell"} else "right")
    for row in shown.to_numpy().tolist():
        table.add_row(*row)
    console.print(table)


def _grouped(members: Iterable[Record], key: Any) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in members:
        groups[key(record)].append(record)
    return groups


def _scores(trials: list[Record], part: str) -> list[float]:
    return [record.scores[part] for record in trials if record.scores]


def _score(row: dict[str, Any]) -> str:
    if pd.notna(row["report_mean"]):
        spread = f" +- {100 * row['report_std']:.1f}" if pd.notna(row["report_std"]) else ""
        return f"{100 * row['report_mean']:.1f}{spread} ({row['seeds']})"
    worst = row["outcome"].split(", ")[0].partition(" ")[2]
    return DASH if row["random"] or worst in {"", "ok"} else worst.upper()


def _text(value: Any, form: str) -> str:
    return DASH if pd.isna(value) else form.format(value)


if __name__ == "__main__":
    sys.exit(cli())
