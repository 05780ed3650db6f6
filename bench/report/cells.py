"""One row per cell: who it is, what it scores at the chosen rate, and what it costs."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, stdev
from typing import Any

import pandas as pd

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
# What depends on the machine: it is shown for the cells of one machine, and of no other, in any one table.
TIMED = (
    *RATES[1:],
    "train_seconds",
    *(f"latency_{one}" for one in LATENCY),
)  # what other load on the machine falsifies
MEASURED = (*(name for name in COUNTS if name.startswith("peak_")), *RATES[1:], "train_seconds")


def machine_of(record: Record) -> str | None:
    """The device that a record comes from and its arithmetic: figures of two machines are never compared."""
    made = record.provenance
    if not made.get("device_name"):
        return None
    threads = f", {made['threads']} threads" if made.get("device") == "cpu" and made.get("threads") else ""
    return f"{made['device_name']}, {made.get('dtype')}{threads}"


def fairness(record: Record) -> str:
    """What two cells must share to stand in one table: all of the identity but the method and its axes."""
    shared = {key: value for key, value in record.identity.items() if key not in {"method", "rank", "target"}}
    return json.dumps(shared, sort_keys=True)


def cells_of(members: Mapping[str, list[Record]]) -> pd.DataFrame:
    """One row per cell, sorted by model, task, method, rank and target; what is unknown is missing.

    Who it is: cell, title, model, task, method, family, rank, target, scale, base, optim, checkpointing, random;
    match_params, the budget that chose its rank; table, what it must share with others to be compared. What it scores:
    report_score (mean over seeds at the chosen rate), report_std, seeds, lr (chosen on select), tuning and rates (how
    it was chosen, and among how many: tuning.py), flags (what a reader must know of the score: flags.py), select_score,
    metric, outcome (such as "2 ok, 1 oom", or "race oom" where no rate came through). What it retains: RETENTION, the
    loss on texts in nats per token, and which texts. What it costs: COUNTS, RATES, `memory_*` and `latency_*` (seconds
    for one row) of its probe; train_seconds, of one training alone at the probe's rate; machine, where that was
    measured; elsewhere, whether its machine is not the table's, so that MEASURED is missing; contended, whether
    something disturbed that measurement, so that TIMED cannot be believed.
    """
    frame = with_head(_of_one_machine(pd.DataFrame([_cell(some) for some in members.values()])))
    kinds = dict.fromkeys(("rank", "match_params", *COUNTS, *(f"memory_{part}" for part in MEMORY)), "Int64")
    kinds |= dict.fromkeys((*RATES, *SCORES, *(f"latency_{one}" for one in LATENCY)), "float64")
    how: Any = {"na_position": "first", "ignore_index": True, "key": _ordered}
    found: pd.DataFrame = frame.astype(kinds).sort_values(["model", "task", *AXES], **how)
    return found


def _of_one_machine(cells: pd.DataFrame) -> pd.DataFrame:
    """Leave MEASURED to the cells of the machine that measured most cells of their table, the first of equals."""
    machines = cells["machine"].fillna("")
    most = machines.groupby(cells["table"]).transform(lambda some: some.value_counts().index[0])
    measured = [*MEASURED, *(f"latency_{one}" for one in LATENCY)]
    elsewhere = (machines != most) & cells[measured].notna().any(axis=1)
    cells.loc[elsewhere, measured] = None
    return cells.assign(elsewhere=elsewhere)


def _ordered(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Weight types in the LoRA paper's order: few before many."""
    if column.name != "target":
        return column
    return column.map(lambda value: value if pd.isna(value) else f"{len(value):2}{[*map('qkvo'.find, value)]}")


def _cell(members: list[Record]) -> dict[str, Any]:
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
        **{f"latency_{one}": ((latency.get(one) or {}).get("1") or {}).get("median") for one in LATENCY},
        "lr": choice.lr,
        "tuning": choice.tuning,
        "rates": len(choice.tried),
        "flags": None if cell["random"] else flags_of(choice, metric),
        "match_params": next((size for one in members if (size := one.config.get("match_params"))), None),
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
    """How the trials of the row ended; where there are none, why the race has found no rate."""
    outcomes = Counter(record.outcome for record in choice.trials)
    if outcomes:
        return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    race = race_of(members)
    return f"race {race.outcome}" if race and race.outcome != "ok" else None


def _metric(members: list[Record]) -> str | None:
    """What the cell is scored by; the task's first metric where no trial has a score."""
    asked = (members[0].config.get("task") or {}).get("metrics") or [None]
    found: str | None = next((record.scores["metric"] for record in members if record.scores), asked[0])
    return found


def _train_seconds(chosen: list[Record], cost: Mapping[str, Any]) -> float | None:
    """Seconds of one training alone: its rows at the probe's rate. What a trial took depends on what ran beside it."""
    rows = [record.cost["samples"] for record in chosen if record.cost and record.cost.get("samples")]
    rate = cost.get("samples_per_second")
    return fmean(rows) / rate if rows and rate else None


def _retention(chosen: list[Record]) -> dict[str, Any]:
    """The loss on texts that the model knew, before training and after it, by mean over seeds."""
    told = [record.scores["retention"] for record in chosen if record.scores and "retention" in record.scores]
    told = [one for one in told if None not in (one["before"], one["after"])]
    if not told:
        return dict.fromkeys((*RETENTION, "retention_texts"))
    before, after = ([one[when] for one in told] for when in ("before", "after"))
    found = (fmean(before), fmean(after), stdev(after) if len(after) > 1 else None)
    return {
        **dict(zip(RETENTION, found, strict=True)),
        "retention_texts": ", ".join(sorted({one["texts"] for one in told})),
    }


def grouped(members: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in members:
        groups[key(record)].append(record)
    return groups
