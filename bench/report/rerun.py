"""Reconstruct the command lines that run a recorded cell again, or tune it."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.records.record import Record
from bench.report.tuning import race_of, rate_of

TARGETS = ("q", "k", "v", "o", "qk", "qv", "qkvo", "mlp", "all")  # conf/target without default; checked by a test
FROM_TASK = ("epochs", "train_rows", "batch", "max_length", "head_lr")  # a protocol takes these from the task
UNSET = ("steps", "tokens", "micro", "warmup_steps", "eval_steps")  # null unless a protocol sets them
UNTUNED_PROTOCOL = "smoke"  # trains too little for the learning rate to matter


def command_of(members: Sequence[Record]) -> str:
    """Return the command that runs a cell again.

    Args:
        members: The records of the cell.

    Returns:
        A shell command. It names the cell's settings, and leaves out the axes that the cell does not use.
    """
    return _command([*_settings(members), *_trial_settings(members)])


def tuning_command(members: Sequence[Record]) -> str:
    """Return the command that tunes a cell's learning rate.

    Args:
        members: The records of the cell.

    Returns:
        A shell command. It uses the standard protocol if the protocol of the cell does not tune.
    """
    settings = ((key, value) for key, value in _settings(members) if (key, value) != ("protocol", UNTUNED_PROTOCOL))
    return _command([*settings, *([("seeds", seeds)] if (seeds := _seeds(members)) else [])])


def _command(settings: Iterable[tuple[str, Any]]) -> str:
    return shlex.join(["python", "-m", "bench.run", *(f"{key}={_hydra_text(value)}" for key, value in settings)])


def _settings(members: Sequence[Record]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a cell as keys and values, without learning rates and seeds."""
    cell, config, identity = members[0].cell, members[0].config, members[0].identity
    model, task, protocol = ({**(config.get(key) or {})} for key in ("model", "task", "protocol"))
    label = model.get("label", cell["model"])
    yield "model", label
    # The label's own model, and one that is pinned, need no name.
    if cell["model"] not in {label, f"{label}-random"} and "name" in model:
        yield "model.name", model["name"]
    if model.get("weights") == "random":
        yield "model.weights", "random"
    yield "task", cell["task"]
    if task.get("path") and not task["path"].startswith("package:"):
        yield "task.path", task["path"]
    task_identity = identity.get("task") or {}
    yield from ((f"task.{key}", task_identity[key]) for key in ("form", "shots", "loss_on") if task_identity.get(key))
    if task_identity.get("prompt"):
        yield "prompt", task_identity["prompt"].get("name", "lm_eval")
    yield "method", cell["method"]
    if cell["rank"] is not None:
        yield "rank", cell["rank"]
    parts = (config.get("target") or {}).get("parts")
    if cell["target"] in TARGETS:
        yield "target", cell["target"]
    elif cell["target"] is not None and parts:  # null stands for the targets of the method's paper
        yield "target.parts", parts
    yield from [("scale", cell["scale"])] if cell.get("scale") else []
    quant = config.get("quant") or {}
    if cell.get("base"):
        yield "quant", quant.get("name", cell["base"])
        yield from [("quant.double", "true")] if quant.get("double") else []
    yield from [("optim", cell["optim"])] if cell.get("optim") else []
    yield from [("checkpointing", "true")] if cell.get("checkpointing") else []
    yield from _protocol_settings(task, protocol)
    yield from [("retain", config["retain"])] if config.get("retain") else []
    precision = identity.get("precision", "auto")  # as used: auto may mean another one elsewhere
    yield from [("precision", precision)] if precision != "auto" else []


def _trial_settings(members: Sequence[Record]) -> Iterator[tuple[str, Any]]:
    """Yield learning rates and seeds. Rates are left out if the cell has a race: without lrs= the command tunes."""
    rates = sorted({lr for record in members if record.trial and (lr := rate_of(record)) is not None})
    words = {str(lrs) for record in members if isinstance(lrs := record.config.get("lrs"), str)}
    if race_of(members) is None and rates:
        yield "lrs", words.pop() if len(words) == 1 else rates
    if seeds := _seeds(members):
        yield "seeds", seeds


def _seeds(members: Sequence[Record]) -> list[int]:
    return sorted({record.trial["seed"] for record in members if record.trial})


def _protocol_settings(task: Mapping[str, Any], protocol: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if (name := protocol.get("name", "standard")) != "standard":
        yield "protocol", name
    for key in FROM_TASK if name in {"standard", "quick"} else ():
        if key in task and protocol.get(key) != task[key]:
            yield f"protocol.{key}", "null" if protocol.get(key) is None else protocol[key]
    yield from ((f"protocol.{key}", protocol[key]) for key in UNSET if protocol.get(key) is not None)


def _hydra_text(value: Any) -> str:
    """Write a value in Hydra's syntax."""
    if isinstance(value, list):
        return f"[{','.join(map(_hydra_text, value))}]"
    text = str(value)
    if re.fullmatch(r"[\w./:~+-]*", text):
        return text
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))
