"""Sample records as a sweep writes them, built from a few numbers, for tests of code that reads or writes records."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.records import record as records
from bench.records.record import Record

MIB = 2**20


def identity_of(
    model: str,
    task: str,
    method: str,
    rank: int | None,
    target: str | None,
    base: str | None,
    optim: str | None,
    **protocol: Any,
) -> dict[str, Any]:
    way = {"name": method, "quant": {"name": base or "none"}, "optim": {"name": optim or "adamw"}}
    return {
        "model": f"sha256:{model}", "task": {"name": task, "data": "sha256:1"}, "method": way,
        "rank": rank, "target": target, "protocol": {"batch": 32, "dropout": None, **protocol}, "precision": "auto",
    }  # fmt: skip


def record_of(
    kind: str = "trial",
    *,
    method: str = "lora",
    rank: int | None = 8,
    target: str | None = "qv",
    base: str | None = None,
    optim: str | None = None,
    model: str = "minilm",
    task: str = "sst2",
    random: bool = False,
    outcome: str = "ok",
    lr: float = 1e-3,
    seed: int = 0,
    select: float = 0.5,
    report: float = 0.5,
    cost: dict[str, Any] | None = None,
    provenance: dict[str, Any] | None = None,
    **protocol: Any,
) -> Record:
    identity = identity_of(model, task, method, rank, target, base, optim, **protocol)
    ident = hashlib.sha256(repr(identity).encode()).hexdigest()[:10]
    ok = kind == "trial" and outcome == "ok"
    settings = {"epochs": 1, "train_rows": None, "weight_decay": 0.01, "warmup": 0.06, "clip": 1.0}
    return Record(
        kind=kind,
        cell={
            "id": ident, "title": f"{method} r={rank} {target}", "model": model, "task": task, "method": method,
            "rank": rank, "target": target, "base": base, "optim": optim, "random": random,
        },
        trial={"id": f"{ident}-lr{lr}-seed{seed}", "lr": lr, "seed": seed} if kind == "trial" else None,
        outcome=outcome,
        error=None if outcome == "ok" else {"type": "Error", "message": "it broke", "traceback": "..."},
        scores={"metric": "accuracy", "select": select, "report": report} if ok else None,
        predictions={"select": [0, 1], "report": [0, 1] * 50} if ok else None,
        curve={"step": [1, 2], "loss": [0.7, 0.6]} if ok else None,
        cost=cost,
        identity=identity,
        config={"protocol": {**settings, **identity["protocol"]}, "precision": "auto"},
        provenance={"dtype": "fp32", "device_name": "a CPU"} if provenance is None else provenance,
    )  # fmt: skip


def probe_of(*, trainable: int = 1_234_567, resident: int = 512 * MIB, **cell: Any) -> Record:
    cost = {
        "trainable_params": trainable, "trainable_percent": 0.321, "samples_per_second": 1234.5, "adapter_bytes": 4096,
        "tokens_per_second": 0.1 + 0.2, "step_seconds_median": 1 / 3, "step_seconds_p95": 0.5,
        "peak_allocated_bytes": None, "peak_reserved_bytes": None, "peak_resident_bytes": resident,
    }  # fmt: skip
    return record_of("probe", cost=cost, **cell)


def race_record(
    lr: float | None = 1e-3,
    *,
    published: float = 1e-3,
    outcomes: dict[float, str] | None = None,
    rule: dict[str, Any] | None = None,
    **cell: Any,
) -> Record:
    """Return the record of a race that chose `lr`.

    By default the candidates are half a decade apart, and three of them are trained to the end. The loss is lowest at
    `lr`.

    Args:
        lr: None if no candidate came through or the race is not over.
        published: The published rate, in the middle of the candidates.
        outcomes: By rate, for the candidates that did not come through.
        rule: Settings of the rule that differ from the defaults.
        cell: Arguments of `record_of`.
    """
    settings = {
        "candidates": 7, "finalists": 3, "widenings": 2, "apart": 0.5, "first_part": 0.5, "seed": 1000, **(rule or {})
    }  # fmt: skip
    below = (settings["candidates"] - 1) // 2
    rates = [
        float(f"{published * 10 ** (settings['apart'] * (place - below)):.3g}")
        for place in range(settings["candidates"])
    ]
    best = published if lr is None else lr
    finished = sorted(rates, key=lambda rate: abs(math.log10(rate / best)))[: settings["finalists"]]
    candidates = []
    for rate in rates:
        outcome = (outcomes or {}).get(rate, "finished" if rate in finished else "dropped")
        loss = 0.4 + abs(round(math.log10(rate / best), 2)) if outcome in {"finished", "dropped"} else None
        error = None if loss is not None else {"type": "Error", "message": f"no luck at {rate:g}", "traceback": "..."}
        steps = [[75, loss], [225, loss]] if outcome == "finished" else [[75, loss]]
        candidates.append({"lr": rate, "outcome": outcome, "select_losses": steps, "lowest": loss, "error": error})
    race = {"rule": settings, "published": published, "lr": lr, "candidates": candidates}
    return replace(record_of("race", **cell), race=race, config={**record_of(**cell).config, "lrs": "tuned"})


def store(folder: Path, *entries: Record) -> Path:
    """Write records where a sweep writes them, and return the folder."""
    for record in entries:
        cell, trial = record.cell, record.trial
        name = record.kind if trial is None else f"lr{trial['lr']!r}-seed{trial['seed']}"
        place = folder / cell["model"] / cell["task"] / f"{cell['method']}-{cell['id']}"
        records.write(place / f"{name}.json", record)
    return folder
