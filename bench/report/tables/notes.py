"""What must stand under a table for a reader to trust it."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.records.record import Record
from bench.report.cells import grouped
from bench.report.record_frame import Study
from bench.report.stats.ties import MOST, some_of, unknown_ties
from bench.report.tables.rate_notes import flag_notes, rate_notes
from bench.report.tables.table import DASH, metric_of

VERSIONS = ("torch", "transformers", "peft", "bitsandbytes")  # packages that can change a number


def notes_of(study: Study, cells: pd.DataFrame, *, rates: bool = True, flags: bool = True) -> list[str]:
    """Seeds, rates, flags, parts, protocol, resolution, ties, and what is missing; one line each.

    rates: whether to name the chosen learning rates, where the table has no column of them. flags: whether to name the
    cells that are flagged, likewise.
    """
    members = [record for name in cells["cell"] for record in study.members[name]]
    seeds = sorted({int(count) for count in cells["seeds"] if count})
    first = (
        f"Mean +- standard deviation over n seeds (n = {', '.join(map(str, seeds)) or DASH}). Learning rate and "
        "checkpoint are chosen on the select part; the report part is shown."
    )
    lines = [first, *rate_notes(study, cells, named=rates), *flag_notes(study, cells, named=flags)]
    lines += [
        *_trained(members),
        *_scales(members),
        *costs_elsewhere(cells),
        *mixture(members),
        *_resolution(study, cells),
    ]
    scored = [record.scores for record in members if record.scores and "chance" in record.scores]
    lines += [_known_nothing(scored[0])] if scored else []
    lines += dict.fromkeys(f"Note: {note}." for record in members for note in record.provenance.get("notes", ()))
    return [*lines, *unknown_ties(study, cells), *_unchosen(cells), *missing(cells)]


def _unchosen(cells: pd.DataFrame) -> list[str]:
    """Cells whose rates cannot be compared."""
    scored = cells["outcome"].fillna("").str.contains(" ok") & ~cells["random"].astype(bool)
    names = cells.loc[scored & cells["report_score"].isna(), "title"].tolist()
    return [f"No learning rate is chosen for {some_of(names)}: its rates have no seed in common."] if names else []


def costs_elsewhere(cells: pd.DataFrame) -> list[str]:
    """Where cost was measured, and whose figures are left out because that was another machine."""
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
    """One line where records of several commits or versions stand together: their numbers may differ for that alone."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in members:
        made = record.provenance
        for package in VERSIONS:
            if version := (made.get("packages") or {}).get(package):
                counts[package][version] += 1
        if commit := made.get("commit"):
            counts["commit"][f"{commit[:10]}{' with changes' if made.get('dirty') else ''}"] += 1
        elif version := made.get("version"):
            counts["peftgrid"][version] += 1
    mixed = [f"{name} {_counted(versions)}" for name, versions in counts.items() if len(versions) > 1]
    return [f"Mixed versions, in records: {'; '.join(mixed)}."] if mixed else []


def _counted(versions: Counter[str]) -> str:
    return ", ".join(f"{version} ({count})" for version, count in versions.most_common(MOST))


def what_differs(tables: list[str], number: int) -> str | None:
    """Say what sets one of several tables apart from the others; None where it is the only one."""
    settings = [_leaves("", json.loads(shared)) for shared in tables]
    one = settings[number - 1]
    names = dict.fromkeys(name for other in settings for name in other)
    own = [f"{name}={one.get(name, 'unset')}" for name in names if len({other.get(name) for other in settings}) > 1]
    return f"Table {number} of {len(tables)}, not to be compared with the others: {', '.join(own)}." if own else None


def missing(cells: pd.DataFrame) -> list[str]:
    """What the grid of methods, ranks and targets lacks: combinations that others of the same method have."""
    lacking = []
    for method, group in cells.groupby("method"):
        ranks, targets = group["rank"].dropna().unique(), group["target"].dropna().unique()
        there = set(zip(group["rank"], group["target"], strict=True))
        if len(ranks) and len(targets):
            lacking += [
                f"{method} r={rank} {target}" for rank in ranks for target in targets if (rank, target) not in there
            ]
    unrun = cells.loc[cells["outcome"].isna(), "title"].tolist()
    lines = [f"Missing from the grid: {some_of(lacking)}."] if lacking else []
    return lines + ([f"Without a trial so far: {some_of(unrun)}."] if unrun else [])


def _leaves(name: str, node: Any) -> dict[str, str]:
    if not isinstance(node, dict):
        return {name: json.dumps(node)}
    return {leaf: text for key in node for leaf, text in _leaves(f"{name}.{key}".lstrip("."), node[key]).items()}


def _trained(members: list[Record]) -> list[str]:
    """One line for each protocol: a table over several tasks may have one for each of them."""
    lines: dict[str, None] = {}
    for of_task in grouped(members, lambda record: record.cell["task"]).values():
        where = [one.provenance for one in of_task if one.provenance.get("dtype")]  # known once a worker is ready
        machines = dict.fromkeys(f"{known['dtype']} on {known['device_name']}" for known in where)
        own = any((one.config.get("method") or {}).get("head_at_lr") for one in of_task)
        for record in {json.dumps(one.config["protocol"]): one for one in of_task}.values():
            arithmetic = f"precision {record.config['precision']} ({', '.join(machines) or DASH})"
            cost = "Cost is the probe's: one trial alone, warm steps."
            lines[f"Protocol: {_settings(record, own=own)}; {arithmetic}. {cost}"] = None
    return list(lines)


def _settings(record: Record, *, own: bool) -> str:
    """The protocol's numbers. own: whether a method is there that trains the head at its own rate."""
    protocol = record.config["protocol"]
    steps, warm, every = (protocol.get(key) for key in ("steps", "warmup_steps", "eval_steps"))
    head = "head_lr" in (record.identity.get("protocol") or {})
    told = [
        f"{protocol['epochs']} epochs" if steps is None else f"{steps:,} steps",
        f" over {_rows(protocol['train_rows'])}, {_batch(protocol)}",
        f", head's learning rate {protocol['head_lr']:g}" if head else "",
        " (method head: its own)" if head and own else "",
        f", weight decay {protocol['weight_decay']}",
        f", warm-up {protocol['warmup']}" if warm is None else f", warm-up {warm} steps",
        f", clip {protocol['clip']}",
        f", select judged every {every} steps" if every else "",
    ]
    return "".join(told)


def _scales(members: list[Record]) -> list[str]:
    """What the names of scales stand for."""
    used = sorted({record.cell["scale"] for record in members if record.cell.get("scale")})
    known = {one["name"]: one for one in (record.config.get("scale") for record in members) if one}
    told = [f"{name} is alpha = {known[name]['alpha']} divided by {_divisor(known[name])}" for name in used]
    return [f"Scale of LoRA's update: {', '.join(told)}; the default is alpha = r, divided by r."] if told else []


def _divisor(scale: dict[str, Any]) -> str:
    return "sqrt(r)" if scale["root"] else "r"


def _resolution(study: Study, cells: pd.DataFrame) -> list[str]:
    """How small a difference means anything, task by task."""
    lines = []
    for task, group in cells[cells["report_score"].notna()].groupby("task"):
        trials = study.trials[study.trials["cell"].isin(group["cell"])]["trial"]
        sizes = [len(study.predictions[name]["report"]) for name in trials if name in study.predictions]
        best = group["report_score"].max()
        if sizes and metric_of(group) == "accuracy":
            error = 100 * (best * (1 - best) / sizes[0]) ** 0.5
            where = f" ({task})" if len(cells["task"].unique()) > 1 else ""
            lines.append(
                f"With {sizes[0]} report examples{where} one standard error of an accuracy is about {error:.1f} points."
            )
    return lines


def _known_nothing(scores: dict[str, Any]) -> str:
    """What multiple-choice scores must be seen beside."""
    chance, majority = 100 * scores["chance"], 100 * scores["majority"]
    return f"Guessing scores {chance:.1f} % on the report part, its most frequent answer {majority:.1f} %."


def _batch(protocol: dict[str, Any]) -> str:
    tokens = protocol.get("tokens")
    return f"batch {protocol['batch']}" if tokens is None else f"batches of at most {tokens:,} tokens"


def _rows(limit: int | None) -> str:
    return "all rows" if limit is None else f"at most {limit:,} rows"
