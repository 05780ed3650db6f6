"""Checks of a configuration that need nothing but itself and the model's config.json: they run before any loading."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

from bench.models.source import Source
from bench.models.targets import resolve
from bench.schema import Config

AXES = ("rank", "target")


def check_keys(config: dict[str, Any]) -> None:
    """Refuse keys that no part of the configuration knows: Hydra lets `+key=value` add any."""
    nodes = {"": (Config, config)}
    nodes |= {f"{node.name}.": (node.type, config[node.name]) for node in fields(Config) if is_dataclass(node.type)}
    for where, (kind, values) in nodes.items():
        allowed = [field.name for field in fields(kind)]
        if unknown := [key for key in values if key not in allowed]:
            raise ValueError(f"'{where}{unknown[0]}' is no setting; allowed there: {', '.join(allowed)}")


def check_values(conf: Config) -> None:
    """Refuse numbers that cannot mean anything. ValueError: which, what is allowed, what to do."""
    protocol = conf.protocol
    _at_least(1, rank=conf.rank, epochs=protocol.epochs, batch=protocol.batch, eval_batch=protocol.eval_batch,
              max_length=protocol.max_length, probe_steps=protocol.probe_steps, select_rows=conf.task.select_rows)
    if protocol.train_rows is not None:
        _at_least(1, train_rows=protocol.train_rows)
    _at_least(0, weight_decay=protocol.weight_decay)
    if not protocol.clip > 0:
        raise ValueError(f"protocol.clip={protocol.clip} must be above 0; the standard is 1.0")
    for name, share in (("warmup", protocol.warmup), ("dropout", protocol.dropout)):
        if share is not None and not 0 <= share < 1:
            raise ValueError(f"protocol.{name}={share} must be at least 0 and below 1")
    for name, values in (("lrs", conf.lrs), ("seeds", conf.seeds)):
        if not values:
            raise ValueError(f"{name} is empty; give at least one, such as {name}=[{1e-3 if name == 'lrs' else 0}]")
    for lr in conf.lrs:
        if not (lr > 0 and math.isfinite(lr)):
            raise ValueError(f"lrs={conf.lrs}: a learning rate must be above 0 and finite, such as lrs=[5e-4]")
    _at_least(0, seeds=min(conf.seeds))
    if unknown := [axis for axis in conf.method.uses if axis not in AXES]:
        raise ValueError(f"method.uses: {unknown[0]!r} is not an axis; choose from {', '.join(AXES)}")
    if "target" in conf.method.uses and not conf.method.target:
        raise ValueError(f"method {conf.method.name!r} uses target but names no published one: add target: [q, v]")
    for node in ("method.attach", "task.load"):
        group, key = node.split(".")
        if "_target_" not in (getattr(getattr(conf, group), key) or {}):
            raise ValueError(f"{node} names no function: add _target_: your.module.function")


def check_fit(conf: Config, source: Source, parts: list[str]) -> None:
    """Refuse what does not fit the model. ValueError as above."""
    if "rank" in conf.method.uses and conf.rank > source.hidden_size:
        raise ValueError(
            f"rank={conf.rank} is larger than the matrices of {source.label}, which are {source.hidden_size} wide; "
            f"choose a rank from 1 to {source.hidden_size}"
        )
    if conf.protocol.max_length > source.positions:
        raise ValueError(
            f"protocol.max_length={conf.protocol.max_length} is more than the {source.positions} positions of "
            f"{source.label}; choose at most {source.positions}"
        )
    if "target" in conf.method.uses:
        resolve(parts, source.model_type)


def _at_least(low: int, **values: float) -> None:
    for name, value in values.items():
        if value < low:
            raise ValueError(f"{name}={value} must be at least {low}")
