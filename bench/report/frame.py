"""Records to a study: a tidy frame of cells, one of trials, and every trial's predictions beside the truth."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from bench.records import Record
from bench.report.paired import Pairs

AXES = ("method", "rank", "target", "base", "optim", "checkpointing")
COUNTS = (
    "trainable_params",
    "head_params",
    "total_params",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "peak_resident_bytes",
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
TRIAL_SECONDS = ("train_seconds", "eval_seconds")


@dataclass(frozen=True)
class Study:
    """cells: one row per cell (see `cells_of`). trials: one row per trial. predictions: by trial id, by part. truth: by
    cell id, by part, where the records have it. members: by cell id, its records. tested: the paired tests of a family
    of cells, and intervals: of their scores, by cell id (standing.py), once they are worked out.
    """

    cells: pd.DataFrame
    trials: pd.DataFrame
    predictions: Mapping[str, Mapping[str, list[Any]]]
    truth: Mapping[str, Mapping[str, list[Any]]]
    members: Mapping[str, list[Record]]
    tested: dict[frozenset[str], Pairs | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Iterable[Record]) -> "Study":
        """Gather records; of copies of one the last counts."""
        distinct = {(one.cell["model"], one.cell["id"], (one.trial or {}).get("id")): one for one in found}
        members = grouped(distinct.values(), lambda record: record.cell["id"])
        trials = [record for record in distinct.values() if record.trial]
        return cls(
            cells_of(members),
            trials_of(trials),
            {(one.trial or {})["id"]: one.predictions for one in trials if one.predictions},
            {name: truth for name, some in members.items() if (truth := _truth(some))},
            members,
        )

    def only(self, chosen: Callable[[pd.DataFrame], "pd.Series[bool]"]) -> "Study":
        """The part of a study whose cells are chosen."""
        cells = self.cells[chosen(self.cells)].reset_index(drop=True)
        members = {name: self.members[name] for name in cells["cell"]}
        trials = self.trials[self.trials["cell"].isin(cells["cell"])].reset_index(drop=True)
        return replace(self, cells=cells, trials=trials, members=members)


def fairness(record: Record) -> str:
    """What two cells must share to stand in one table: all of the identity but the method and its axes."""
    shared = {key: value for key, value in record.identity.items() if key not in {"method", "rank", "target"}}
    return json.dumps(shared, sort_keys=True)


def cells_of(members: Mapping[str, list[Record]]) -> pd.DataFrame:
    """One row per cell, sorted by model, task, method, rank and target; what is unknown is missing.

    Who it is: cell, title, model, task, method, family, rank, target, base, optim, checkpointing, random; table, what
    it must share with others to be compared. What it scores: report_score (mean over seeds at the chosen rate),
    report_std, seeds, lr (chosen on select), lrs_tried, select_score, metric, outcome (such as "2 ok, 1 oom"). What it
    retains: RETENTION, the loss on texts in nats per token, and which texts. What it costs: COUNTS, RATES, `memory_*`
    and `latency_*` (seconds for one row) of its probe, train_seconds of a trial.
    """
    frame = pd.DataFrame([_cell(some) for some in members.values()])
    kinds = dict.fromkeys(("rank", *COUNTS, *(f"memory_{part}" for part in MEMORY)), "Int64")
    kinds |= dict.fromkeys((*RATES, *SCORES, *(f"latency_{one}" for one in LATENCY)), "float64")
    how: Any = {"na_position": "first", "ignore_index": True, "key": _ordered}
    found: pd.DataFrame = frame.astype(kinds).sort_values(["model", "task", *AXES], **how)
    return found


def _ordered(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Weight types in the LoRA paper's order: few before many."""
    if column.name != "target":
        return column
    return column.map(lambda value: value if pd.isna(value) else f"{len(value):2}{[*map('qkvo'.find, value)]}")


def trials_of(trials: Iterable[Record]) -> pd.DataFrame:
    """One row per trial, with the columns of TRIAL; error: its first line."""
    return pd.DataFrame([_trial(record) for record in trials], columns=[*TRIAL])


TRIAL = ("trial", "cell", "lr", "seed", "outcome", "error", "select", "report", "best_epoch", *TRIAL_SECONDS, "pack")


def _trial(record: Record) -> dict[str, Any]:
    scores, cost, trial = record.scores or {}, record.cost or {}, record.trial or {}
    return {
        "trial": trial["id"],
        "cell": record.cell["id"],
        "lr": trial["lr"],
        "seed": trial["seed"],
        "outcome": record.outcome,
        "error": first_line(record),
        **{key: scores.get(key) for key in ("select", "report", "best_epoch")},
        **{key: cost.get(key) for key in (*TRIAL_SECONDS, "pack")},
    }


def first_line(record: Record) -> str | None:
    """The first line of what went wrong."""
    message = ((record.error or {}).get("message") or (record.error or {}).get("type") or "").strip()
    return message.splitlines()[0] if message else None


def _cell(members: list[Record]) -> dict[str, Any]:
    cell, config = members[0].cell, members[0].config
    cost: dict[str, Any] = next((record.cost for record in members if record.kind == "probe" and record.cost), {})
    by_lr = grouped([record for record in members if record.trial], lambda record: (record.trial or {})["lr"])
    best = best_lr(by_lr)
    chosen = by_lr.get(best, [])
    report, select = ([] if cell["random"] else scores(chosen, part) for part in ("report", "select"))
    seconds = [record.cost["train_seconds"] for record in chosen if record.cost]
    outcomes = Counter(record.outcome for trials in by_lr.values() for record in trials)
    memory, latency = cost.get("memory") or {}, cost.get("latency") or {}
    return {
        "cell": cell["id"],
        **{key: cell[key] for key in ("title", "model", "task", "method", "rank", "target", "random")},
        **{key: cell.get(key) or None for key in ("base", "optim", "checkpointing")},
        "family": (config.get("method") or {}).get("family"),
        "table": fairness(members[0]),
        **{key: cost.get(key) for key in COUNTS + RATES},
        **{f"memory_{part}": memory.get(part) for part in MEMORY},
        **{f"latency_{one}": ((latency.get(one) or {}).get("1") or {}).get("median") for one in LATENCY},
        "lr": best,
        "lrs_tried": len(set(by_lr) - {None}),
        "report_score": fmean(report) if report else None,
        "report_std": stdev(report) if len(report) > 1 else None,
        "select_score": fmean(select) if select else None,
        "seeds": len(report),
        "train_seconds": fmean(seconds) if seconds else None,
        **_retention([] if cell["random"] else chosen),
        "outcome": ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or None,
        "metric": next((record.scores["metric"] for record in members if record.scores), None),
    }


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


def best_lr(by_lr: Mapping[float | None, list[Record]]) -> float | None:
    """The best on select by mean over seeds; the report part has no say. Of equals the lowest; None: there is none.

    Only those with the most finished seeds compete: the mean of a rate that lost its bad seeds would flatter it.
    """
    found = {lr: some for lr in sorted(by_lr, key=lambda lr: lr or 0) if (some := scores(by_lr[lr], "select"))}
    most = max(map(len, found.values()), default=0)
    return max((lr for lr in found if len(found[lr]) == most), key=lambda lr: sum(found[lr]) / most, default=None)


def scores(trials: Iterable[Record], part: str) -> list[float]:
    return [record.scores[part] for record in trials if record.scores]


def grouped(members: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in members:
        groups[key(record)].append(record)
    return groups


def _truth(members: list[Record]) -> Mapping[str, list[Any]] | None:
    return next((record.truth for record in members if record.truth), None)
