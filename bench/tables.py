"""Records to tables: which cells may stand in one, what their numbers are, and how people read them."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from bench.records import Record

DASH = "-"
MIB = 2**20
AXES = ("method", "rank", "target", "base", "optim", "checkpointing")
COUNTS = ("trainable_params", "peak_allocated_bytes", "peak_reserved_bytes", "peak_resident_bytes", "adapter_bytes")
RATES = ("trainable_percent", "samples_per_second", "tokens_per_second", "step_seconds_median", "step_seconds_p95")


def fairness(record: Record) -> str:
    """What two cells must share to stand in one table: all of the identity but the method and its axes."""
    shared = {key: value for key, value in record.identity.items() if key not in {"method", "rank", "target"}}
    return json.dumps(shared, sort_keys=True)


def differences(tables: list[str], number: int) -> str:
    """Say what sets one of several tables apart from the others; nothing where it is the only one."""
    settings = [_leaves("", json.loads(shared)) for shared in tables]
    one = settings[number - 1]
    own = [f"{name}={one[name]}" for name in one if any(other.get(name) != one[name] for other in settings)]
    return f"Table {number} of {len(tables)}, not to be compared with the others: {', '.join(own)}.\n" if own else ""


def _leaves(name: str, node: Any) -> dict[str, str]:
    if not isinstance(node, dict):
        return {name: json.dumps(node)}
    return {leaf: text for key in node for leaf, text in _leaves(f"{name}.{key}".lstrip("."), node[key]).items()}


def tidy(members: list[Record]) -> pd.DataFrame:
    """One row per cell, sorted by method, rank and target; what is unknown is missing."""
    cells = grouped(members, lambda record: record.cell["id"]).values()
    frame = pd.DataFrame([_row(cell) for cell in cells])
    kinds = dict.fromkeys(("rank", *COUNTS), "Int64") | dict.fromkeys((*RATES, "report_mean", "report_std"), "float64")
    return frame.astype(kinds).sort_values(list(AXES), na_position="first", ignore_index=True)


def _row(members: list[Record]) -> dict[str, Any]:
    cell = members[0].cell
    cost = next((record.cost for record in members if record.kind == "probe"), None) or {}
    by_lr = grouped([record for record in members if record.trial], lambda record: (record.trial or {})["lr"])
    best = _best_lr(by_lr)
    report = pd.Series([] if cell["random"] else _scores(by_lr.get(best, []), "report"), dtype=float)
    outcomes = Counter(record.outcome for trials in by_lr.values() for record in trials)
    return {
        **{key: cell[key] for key in ("model", "task", "method", "rank", "target")},
        **{key: cell.get(key) or None for key in ("base", "optim", "checkpointing")},
        **{key: cost.get(key) for key in COUNTS + RATES},
        "lr": best,
        "lrs_tried": len(set(by_lr) - {None}),
        "report_mean": report.mean() if len(report) else None,
        "report_std": report.std(ddof=1) if len(report) > 1 else None,
        "seeds": len(report),
        "outcome": ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()) or None,
        "metric": next((record.scores["metric"] for record in members if record.scores), None),
        "random": cell["random"],
        "cell": cell["id"],
    }


def _best_lr(by_lr: dict[float | None, list[Record]]) -> float | None:
    """The best on select by mean over seeds; the report part has no say. Of equals the lowest; None: there is none.

    Only those with the most finished seeds compete: the mean of a rate that lost its bad seeds would flatter it.
    """
    scores = {
        lr: found
        for lr, trials in sorted(by_lr.items(), key=lambda item: item[0] or 0)
        if (found := _scores(trials, "select"))
    }
    most = max(map(len, scores.values()), default=0)
    return max((lr for lr in scores if len(scores[lr]) == most), key=lambda lr: sum(scores[lr]) / most, default=None)


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it: text in every entry, a dash where there is nothing to say."""
    on_gpu = frame["peak_allocated_bytes"].notna().any()
    peak = frame["peak_allocated_bytes" if on_gpu else "peak_resident_bytes"]
    metric = _metric(frame)
    return pd.DataFrame(
        {
            "method": frame["method"],
            "rank": frame["rank"].map(lambda value: _text(value, "{:.0f}")),
            "target": frame["target"].map(lambda value: _text(value, "{}")),
            **{
                key: frame[key].map(lambda value: _text(value, "{}").replace("True", "yes"))
                for key in ("base", "optim", "checkpointing")
                if frame[key].notna().any()
            },
            "trainable": frame["trainable_params"].map(lambda value: _text(value, "{:,.0f}")),
            "%": frame["trainable_percent"].map(lambda value: _text(value, "{:.3f}")),
            "peak MiB" if on_gpu else "peak MiB (resident)": (peak / MIB).map(lambda value: _text(value, "{:,.0f}")),
            "samples/s": frame["samples_per_second"].map(lambda value: _text(value, "{:,.0f}")),
            "lr": frame["lr"].map(lambda value: _text(value, "{:g}")),
            f"{metric.replace('_', ' ')} %": [_score(row) for _, row in frame.iterrows()],
            "outcome": frame["outcome"].map(lambda value: _text(value, "{}")),
            "cell": frame["cell"],
        }
    )


def _metric(frame: pd.DataFrame) -> str:
    """What the table scores by: the same for all of one task; accuracy where nothing has been scored."""
    known = frame["metric"].dropna()
    return str(known.iloc[0]) if len(known) else "accuracy"


def caption(members: list[Record], frame: pd.DataFrame) -> str:
    """What the reader must know to trust the table."""
    config = members[0].config
    protocol = config["protocol"]
    where = [record.provenance for record in members if record.provenance.get("dtype")]  # known once a worker is ready
    machines = dict.fromkeys(f"{known['dtype']} on {known['device_name']}" for known in where)
    sizes = [len(record.predictions["report"]) for record in members if record.predictions]
    tried = sorted({int(count) for count in frame["lrs_tried"] if count})
    best = frame["report_mean"].max()
    chosen = (
        "Mean +- standard deviation over n seeds. Learning rate and checkpoint are chosen on the select part; the "
        f"report part is shown. Learning rates tried per cell: {', '.join(map(str, tried)) or DASH}."
    )
    trained = (
        f"Protocol: {protocol['epochs']} epochs over {_rows(protocol['train_rows'])}, {_batch(protocol)}, "
        f"weight decay {protocol['weight_decay']}, warm-up {protocol['warmup']}, clip "
        f"{protocol['clip']}; precision {config['precision']} ({', '.join(machines) or DASH}). "
        "Cost is the probe's: one trial alone, warm steps."
    )
    lines = [chosen, trained]
    if sizes and pd.notna(best) and _metric(frame) == "accuracy":
        error = 100 * (best * (1 - best) / sizes[0]) ** 0.5
        lines.append(f"With {sizes[0]} report examples one standard error of an accuracy is about {error:.1f} points.")
    lines += [_known_nothing(record.scores) for record in members if record.scores and "chance" in record.scores][:1]
    lines += dict.fromkeys(f"Note: {note}." for record in where for note in record.get("notes", ()))
    return "\n".join(lines)


def _known_nothing(scores: dict[str, Any]) -> str:
    """What multiple-choice scores must be seen beside."""
    chance, majority = 100 * scores["chance"], 100 * scores["majority"]
    return f"Guessing scores {chance:.1f} % on the report part, its most frequent answer {majority:.1f} %."


def _batch(protocol: dict[str, Any]) -> str:
    tokens = protocol.get("tokens")
    return f"batch {protocol['batch']}" if tokens is None else f"batches of at most {tokens:,} tokens"


def _rows(limit: int | None) -> str:
    return "all rows" if limit is None else f"at most {limit:,} rows"


def grouped(members: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in members:
        groups[key(record)].append(record)
    return groups


def _scores(trials: list[Record], part: str) -> list[float]:
    return [record.scores[part] for record in trials if record.scores]


def _score(row: pd.Series) -> str:
    """Mean +- standard deviation (n); what went wrong where there is no score; a dash for random weights."""
    if pd.notna(row["report_mean"]):
        spread = f" +- {100 * row['report_std']:.1f}" if pd.notna(row["report_std"]) else ""
        return f"{100 * row['report_mean']:.1f}{spread} ({row['seeds']})"
    if pd.isna(row["outcome"]) or " ok" in row["outcome"]:
        return DASH
    return str(row["outcome"]).split(", ")[0].partition(" ")[2].upper()


def _text(value: Any, form: str) -> str:
    return DASH if pd.isna(value) else form.format(value)
