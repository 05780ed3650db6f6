"""Records as a sweep writes them, made of a few numbers, for the tests of what reads and writes them."""

import hashlib
from pathlib import Path
from typing import Any

from bench import records
from bench.records import Record

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


def store(folder: Path, *found: Record) -> Path:
    """Put records where a sweep puts them."""
    for record in found:
        cell, trial = record.cell, record.trial
        name = "probe" if trial is None else f"lr{trial['lr']!r}-seed{trial['seed']}"
        place = folder / cell["model"] / cell["task"] / f"{cell['method']}-{cell['id']}"
        records.write(place / f"{name}.json", record)
    return folder
