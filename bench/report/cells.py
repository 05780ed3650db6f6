"""One row per cell: its identity, its scores at the chosen learning rate, and its cost."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from bench.cli import counted
from bench.records.record import Record
from bench.report.flags import flags_of, with_head
from bench.report.tuning import Choice, choice_of, race_of, scores

AXES = ("method", "rank", "target", "scale", "base", "optim", "checkpointing")
COUNTS = (
    "trainable_params",
    "head_params",
    "total_params",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "peak_resident_bytes",
    "peak_own_bytes",
    "adapter_bytes",
)
RATES = (
    "trainable_percent",
    "samples_per_second",
    "tokens_per_second",
    "step_seconds_median",
    "step_seconds_p95",
    "eval_seconds",
)
MEMORY = ("weights", "gradients", "optimizer", "activations")
LATENCY = ("bare", "adapted", "merged")
RETENTION = ("retention_before", "retention_after", "retention_std")
SCORES = ("report_score", "report_std", "select_score", "train_seconds", *RETENTION)
GROUPS = ("mlp", "all")  # targets that stand for several weight types
# Columns that other load on the machine falsifies.
TIMED = (
    *RATES[1:],
    "train_seconds",
    *(f"latency_{state}" for state in LATENCY),
)
# Columns that depend on the machine. A table shows them, and the latencies, only for cells of one machine.
MEASURED = (*(name for name in COUNTS if name.startswith("peak_")), *RATES[1:], "train_seconds")


def machine_of(record: Record) -> str | None:
    """Name the machine of a record: device, data type and, on a CPU, threads.

    Measurements of different machines are never compared.

    Args:
        record: Any record.

    Returns:
        The name; None if the record does not say which device it used.
    """
    provenance = record.provenance
    if not provenance.get("device_name"):
        return None
    on_cpu = provenance.get("device") == "cpu"
    threads = f", {counted(provenance['threads'], 'thread')}" if on_cpu and provenance.get("threads") else ""
    return f"{provenance['device_name']}, {provenance.get('dtype')}{threads}"


def fairness(record: Record) -> str:
    """Return the table key of a cell: its identity without method, rank and target, as JSON.

    Two cells may share a table if their keys are equal. The source of a user's own method is part of the method.
    """
    shared = {key: value for key, value in record.identity.items() if key not in {"method", "rank", "target"}}
    method = json.dumps(record.identity.get("method"))
    sources = {path: source for path, source in shared.pop("sources", {}).items() if json.dumps(path) not in method}
    return json.dumps(shared | ({"sources": sources} if sources else {}), sort_keys=True)


def cells_of(members: Mapping[str, list[Record]]) -> pd.DataFrame:
    """Build the frame of cells.

    The columns:

    * Identity: cell, title, model, task, method, family, rank, target, scale, base, optim, checkpointing, random.
      match_params is the parameter budget that chose the rank. table is the key that comparable cells share, see
      `fairness`.
    * Scores: report_score (mean over seeds at the chosen rate), report_std, seeds, select_score and metric. lr is the
      rate chosen on select. tuning and rates say how it was chosen, and among how many rates (tuning.py). flags are
      doubts about the score (flags.py). outcome is such as "2 ok, 1 oom", or "race oom" if the race found no rate.
    * Retention: RETENTION, the loss on known texts in nats per token, and retention_texts, the name of the texts.
    * Cost, from the probe: COUNTS, RATES, `memory_*`, and `latency_*` (seconds for one row). train_seconds is the time
      of one training alone, at the probe's speed. machine is where the cost was measured. elsewhere is true if the
      machine is not that of the table, so that MEASURED is missing. contended is true if something disturbed the
      measurement, so that TIMED is unreliable.

    Args:
        members: The records of each cell, by cell id.

    Returns:
        One row per cell, sorted by model, task and AXES. Unknown values are missing.
    """
    frame = with_head(_of_one_machine(pd.DataFrame([_cell(records) for records in members.values()])))
    dtypes = dict.fromkeys(("rank", "match_params", *COUNTS, *(f"memory_{part}" for part in MEMORY)), "Int64")
    dtypes |= dict.fromkeys((*RATES, *SCORES, *(f"latency_{state}" for state in LATENCY)), "float64")
    sorting: Any = {"na_position": "first", "ignore_index": True, "key": _sort_key}
    cells: pd.DataFrame = frame.astype(dtypes).sort_values(["model", "task", *AXES], **sorting)
    return cells


def _of_one_machine(cells: pd.DataFrame) -> pd.DataFrame:
    """Blank the measurements of cells that were not measured on the machine of most cells of their table.

    If several machines measured equally many cells, the first one is kept.
    """
    machines = cells["machine"].fillna("")
    most_frequent = machines.groupby(cells["table"]).transform(lambda group: group.value_counts().index[0])
    measured = [*MEASURED, *(f"latency_{state}" for state in LATENCY)]
    elsewhere = (machines != most_frequent) & cells[measured].notna().any(axis=1)
    cells.loc[elsewhere, measured] = None
    return cells.assign(elsewhere=elsewhere)


def _sort_key(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a sort key. It orders targets as the LoRA paper does: few weight types first, then q, k, v, o."""
    if column.name != "target":
        return column
    return column.map(lambda target: target if pd.isna(target) else _place(target))


def _place(target: str) -> str:
    """Return a target's place: few weight types first, then q, k, v, o. The groups `mlp` and `all` come last."""
    if target in GROUPS:
        return f"9{GROUPS.index(target)}"
    letters = [*map("qkvo".find, target.split("+", maxsplit=1)[0])]
    count = target.count("+") + (1 if -1 in letters else len(letters))
    return f"{count:02}{letters}{target}"


def _cell(members: list[Record]) -> dict[str, Any]:
    """Return the row of a cell, from its records."""
    cell, config = members[0].cell, members[0].config
    probe = next((record for record in members if record.kind == "probe" and record.cost), None)
    cost: dict[str, Any] = (probe.cost if probe else None) or {}
    choice = choice_of(members)
    chosen = choice.chosen
    report, select = ([] if cell["random"] else scores(chosen, part) for part in ("report", "select"))
    metric = _metric(members)
    memory, latency = cost.get("memory") or {}, cost.get("latency") or {}
    return {
        "cell": cell["id"],
        **{key: cell[key] for key in ("title", "model", "task", "method", "rank", "target", "random")},
        **{key: cell.get(key) or None for key in ("scale", "base", "optim", "checkpointing")},
        "family": (config.get("method") or {}).get("family"),
        "table": fairness(members[0]),
        **{key: cost.get(key) for key in COUNTS + RATES},
        **{f"memory_{part}": memory.get(part) for part in MEMORY},
        **{f"latency_{state}": ((latency.get(state) or {}).get("1") or {}).get("median") for state in LATENCY},
        "lr": choice.lr,
        "tuning": choice.tuning,
        "rates": len(choice.tried),
        "flags": None if cell["random"] else flags_of(choice, metric),
        "match_params": next((size for record in members if (size := record.config.get("match_params"))), None),
        "report_score": fmean(report) if report else None,
        "report_std": stdev(report) if len(report) > 1 else None,
        "select_score": fmean(select) if select else None,
        "seeds": len(report),
        "train_seconds": _train_seconds(chosen, cost),
        "machine": machine_of(probe) if probe else None,
        "contended": bool(cost.get("contended")),
        **_retention([] if cell["random"] else chosen),
        "outcome": _outcome(choice, members),
        "metric": metric,
    }


def _outcome(choice: Choice, members: list[Record]) -> str | None:
    """Summarise how the trials of the row ended; without trials, how the race failed."""
    outcomes = Counter(record.outcome for record in choice.trials)
    if outcomes:
        return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    race = race_of(members)
    return f"race {race.outcome}" if race and race.outcome != "ok" else None


def _metric(members: list[Record]) -> str | None:
    """Return the metric that the cell is scored by. Without scores this is the task's first metric."""
    configured = (members[0].config.get("task") or {}).get("metrics") or [None]
    metric: str | None = next((record.scores["metric"] for record in members if record.scores), configured[0])
    return metric


def _train_seconds(chosen: list[Record], cost: Mapping[str, Any]) -> float | None:
    """Return the seconds of one training alone: its rows at the probe's speed.

    The measured time of a trial is not used, because it depends on what else was running.
    """
    rows = [record.cost["samples"] for record in chosen if record.cost and record.cost.get("samples")]
    rate = cost.get("samples_per_second")
    return fmean(rows) / rate if rows and rate else None


def _retention(chosen: list[Record]) -> dict[str, Any]:
    """Return the mean loss over seeds on texts that the model knew, before and after training."""
    retentions = [record.scores["retention"] for record in chosen if record.scores and "retention" in record.scores]
    retentions = [retention for retention in retentions if None not in (retention["before"], retention["after"])]
    if not retentions:
        return dict.fromkeys((*RETENTION, "retention_texts"))
    before, after = ([retention[moment] for retention in retentions] for moment in ("before", "after"))
    losses = (fmean(before), fmean(after), stdev(after) if len(after) > 1 else None)
    return {
        **dict(zip(RETENTION, losses, strict=True)),
        "retention_texts": ", ".join(sorted({retention["texts"] for retention in retentions})),
    }


def grouped(members: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    """Group records by a key, in the order in which the keys first appear."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in members:
        groups[key(record)].append(record)
    return groups
