"""The notes under a table: how its numbers were made, how certain they are, and what is missing."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.cli import counted
from bench.records.record import Record
from bench.report.cells import grouped
from bench.report.record_frame import Study
from bench.report.stats.ties import MOST, some_of, unknown_ties
from bench.report.tables.rate_notes import flag_notes, rate_notes
from bench.report.tables.table import DASH, metric_of

VERSIONS = ("torch", "transformers", "peft", "bitsandbytes")  # packages that can change a number


def notes_of(study: Study, cells: pd.DataFrame, *, rates: bool = True, flags: bool = True) -> list[str]:
    """Return the notes of a table, one line each.

    They cover seeds, rates, flags, parts, protocol, resolution, ties, and missing cells.

    Args:
        study: Comparable cells.
        cells: The cells shown.
        rates: Whether to name the chosen learning rates, because the table has no column of them.
        flags: Whether to name the flagged cells, because the table has no column of flags.
    """
    members = [record for name in cells["cell"] for record in study.members[name]]
    seeds = sorted({int(count) for count in cells["seeds"] if count})
    first = (
        f"Mean +- standard deviation over n seeds (n = {', '.join(map(str, seeds)) or DASH}). Learning rate and "
        "checkpoint are chosen on the select part; the report part is shown."
    )
    lines = [first, *rate_notes(study, cells, named=rates), *flag_notes(study, cells, named=flags)]
    lines += [
        *_protocols(members),
        *_scales(members),
        *costs_elsewhere(cells),
        *mixture(members),
        *_resolution(study, cells),
    ]
    scored = [record.scores for record in members if record.scores and "chance" in record.scores]
    lines += [_chance_note(scored[0])] if scored else []
    lines += dict.fromkeys(f"Note: {note}." for record in members for note in record.provenance.get("notes", ()))
    return [*lines, *unknown_ties(study, cells), *_unchosen_rates(cells), *missing(cells)]


def _unchosen_rates(cells: pd.DataFrame) -> list[str]:
    """Name the cells whose rates cannot be compared."""
    scored = cells["outcome"].fillna("").str.contains(" ok") & ~cells["random"].astype(bool)
    names = cells.loc[scored & cells["report_score"].isna(), "title"].tolist()
    return [f"No learning rate is chosen for {some_of(names)}: its rates have no seed in common."] if names else []


def costs_elsewhere(cells: pd.DataFrame) -> list[str]:
    """Say where cost was measured, and which cells show none because they were measured on another machine."""
    lines = []
    for _, group in cells.groupby("table"):
        names = group.loc[group["elsewhere"], "title"].tolist()
        machines = group.loc[~group["elsewhere"], "machine"].dropna()
        if names:
            lines.append(
                f"Speed and peak memory are those of {machines.iloc[0] if len(machines) else 'one machine'}. Cells "
                f"measured on another machine show none: {some_of(names)}."
            )
    return lines


def mixture(members: Iterable[Record]) -> list[str]:
    """Return a note if records of several commits or versions are mixed, as this alone can change numbers."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in members:
        provenance = record.provenance
        for package in VERSIONS:
            if version := (provenance.get("packages") or {}).get(package):
                counts[package][version] += 1
        if commit := provenance.get("commit"):
            counts["commit"][f"{commit[:10]}{' with changes' if provenance.get('dirty') else ''}"] += 1
        elif version := provenance.get("version"):
            counts["peftgrid"][version] += 1
    mixed = [f"{name} {_version_counts(versions)}" for name, versions in counts.items() if len(versions) > 1]
    return [f"Mixed versions, in records: {'; '.join(mixed)}."] if mixed else []


def _version_counts(versions: Counter[str]) -> str:
    return ", ".join(f"{version} ({count})" for version, count in versions.most_common(MOST))


def what_differs(tables: list[str], number: int) -> str | None:
    """Say which settings distinguish one of several tables from the others.

    Args:
        tables: The settings that the cells of each table share, as JSON.
        number: Number of the table, from 1.

    Returns:
        One line; None if there is only one table.
    """
    settings = [_leaves("", json.loads(shared)) for shared in tables]
    current = settings[number - 1]
    names = dict.fromkeys(name for values in settings for name in values)
    own = [
        f"{name}={current.get(name, 'unset')}" for name in names if len({values.get(name) for values in settings}) > 1
    ]
    return f"Table {number} of {len(tables)}, not to be compared with the others: {', '.join(own)}." if own else None


def missing(cells: pd.DataFrame) -> list[str]:
    """Name the cells that the grid lacks: combinations of a method's ranks and targets, and cells without a trial."""
    lacking = []
    for method, group in cells.groupby("method"):
        ranks, targets = group["rank"].dropna().unique(), group["target"].dropna().unique()
        present = set(zip(group["rank"], group["target"], strict=True))
        if len(ranks) and len(targets):
            lacking += [
                f"{method} r={rank} {target}" for rank in ranks for target in targets if (rank, target) not in present
            ]
    unrun = cells.loc[cells["outcome"].isna(), "title"].tolist()
    lines = [f"Missing from the grid: {some_of(lacking)}."] if lacking else []
    return lines + ([f"No trial so far: {some_of(unrun)}."] if unrun else [])


def _leaves(name: str, node: Any) -> dict[str, str]:
    """Flatten nested settings to dotted names with values as JSON."""
    if not isinstance(node, dict):
        return {name: json.dumps(node)}
    return {leaf: text for key in node for leaf, text in _leaves(f"{name}.{key}".lstrip("."), node[key]).items()}


def _protocols(members: list[Record]) -> list[str]:
    """Return one note per protocol. A table over several tasks may have one protocol per task."""
    lines: dict[str, None] = {}
    for of_task in grouped(members, lambda record: record.cell["task"]).values():
        started = [record.provenance for record in of_task if record.provenance.get("dtype")]  # set by a ready worker
        machines = dict.fromkeys(f"{provenance['dtype']} on {provenance['device_name']}" for provenance in started)
        own_head_rate = any((record.config.get("method") or {}).get("head_at_lr") for record in of_task)
        for record in {json.dumps(record.config["protocol"]): record for record in of_task}.values():
            precision = f"precision {record.config['precision']} ({', '.join(machines) or DASH})"
            cost = "Cost is the probe's: one trial alone, warm steps."
            lines[f"Protocol: {_protocol_text(record, own_head_rate=own_head_rate)}; {precision}. {cost}"] = None
    return list(lines)


def _protocol_text(record: Record, *, own_head_rate: bool) -> str:
    """Format the protocol of a record.

    own_head_rate: whether the table has a method that trains the head at the method's own learning rate.
    """
    protocol = record.config["protocol"]
    steps, warm, every = (protocol.get(key) for key in ("steps", "warmup_steps", "eval_steps"))
    head = "head_lr" in (record.identity.get("protocol") or {})
    parts = [
        counted(protocol["epochs"], "epoch") if steps is None else counted(steps, "step"),
        f" over {_rows_text(protocol['train_rows'])}, {_batch_text(protocol)}",
        f", head's learning rate {protocol['head_lr']:g}" if head else "",
        " (method head: its own)" if head and own_head_rate else "",
        f", weight decay {protocol['weight_decay']}",
        f", warm-up {protocol['warmup']}" if warm is None else f", warm-up {counted(warm, 'step')}",
        f", clip {protocol['clip']}",
        f", select evaluated every {counted(every, 'step')}" if every else "",
    ]
    return "".join(parts)


def _scales(members: list[Record]) -> list[str]:
    """Explain the names of the scales in use."""
    used = sorted({record.cell["scale"] for record in members if record.cell.get("scale")})
    scales = {scale["name"]: scale for scale in (record.config.get("scale") for record in members) if scale}
    meanings = [f"{name} is alpha = {scales[name]['alpha']} divided by {_divisor(scales[name])}" for name in used]
    if not meanings:
        return []
    return [f"Scale of LoRA's update: {', '.join(meanings)}; the default is alpha = r, divided by r."]


def _divisor(scale: dict[str, Any]) -> str:
    return "sqrt(r)" if scale["root"] else "r"


def _resolution(study: Study, cells: pd.DataFrame) -> list[str]:
    """Say for each task how large the standard error of an accuracy is."""
    lines = []
    for task, group in cells[cells["report_score"].notna()].groupby("task"):
        trials = study.trials[study.trials["cell"].isin(group["cell"])]["trial"]
        sizes = [len(study.predictions[name]["report"]) for name in trials if name in study.predictions]
        best = group["report_score"].max()
        if sizes and metric_of(group) == "accuracy":
            error = 100 * (best * (1 - best) / sizes[0]) ** 0.5
            where = f" ({task})" if len(cells["task"].unique()) > 1 else ""
            examples = counted(sizes[0], "report example")
            lines.append(f"With {examples}{where} one standard error of an accuracy is about {error:.1f} points.")
    return lines


def _chance_note(scores: dict[str, Any]) -> str:
    """Return the baselines of multiple-choice scores: guessing, and always giving the most frequent answer."""
    chance, majority = 100 * scores["chance"], 100 * scores["majority"]
    return f"Guessing scores {chance:.1f} % on the report part, its most frequent answer {majority:.1f} %."


def _batch_text(protocol: dict[str, Any]) -> str:
    tokens = protocol.get("tokens")
    return f"batch {protocol['batch']}" if tokens is None else f"batches of at most {tokens:,} tokens"


def _rows_text(limit: int | None) -> str:
    return "all rows" if limit is None else f"at most {limit:,} rows"
