"""Commands as people type them: that runs a recorded cell again, and that tunes it."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.records.record import Record
from bench.report.tuning import race_of, rate_of

TARGETS = ("q", "k", "v", "o", "qk", "qv", "qkvo", "mlp", "all")  # conf/target, but for default; a test holds the two
FROM_TASK = ("epochs", "train_rows", "batch", "max_length", "head_lr")  # what a protocol takes from the task
UNSET = ("steps", "tokens", "micro", "warmup_steps", "eval_steps")  # null where a protocol leaves them alone
UNTUNED_PROTOCOL = "smoke"  # which trains too little for a rate to matter


def command_of(members: Sequence[Record]) -> str:
    """The command that runs a cell again: its choices by name, without the axes that it does not use."""
    return _joined([*_choices(members), *_trials(members)])


def tuning_command(members: Sequence[Record]) -> str:
    """The command that tunes a cell's learning rate; by the standard protocol where the cell's own does not tune."""
    chosen = ((key, value) for key, value in _choices(members) if (key, value) != ("protocol", UNTUNED_PROTOCOL))
    return _joined([*chosen, *([("seeds", seeds)] if (seeds := _seeds(members)) else [])])


def _joined(choices: Iterable[tuple[str, Any]]) -> str:
    return shlex.join(["python", "-m", "bench.run", *(f"{key}={_worded(value)}" for key, value in choices)])


def _choices(members: Sequence[Record]) -> Iterator[tuple[str, Any]]:
    cell, config, identity = members[0].cell, members[0].config, members[0].identity
    model, task, protocol = ({**(config.get(key) or {})} for key in ("model", "task", "protocol"))
    label = model.get("label", cell["model"])
    yield "model", label
    if cell["model"] not in {label, f"{label}-random"} and "name" in model:  # neither the label's nor pinned
        yield "model.name", model["name"]
    if model.get("weights") == "random":
        yield "model.weights", "random"
    yield "task", cell["task"]
    if task.get("path") and not task["path"].startswith("package:"):
        yield "task.path", task["path"]
    asked = identity.get("task") or {}
    yield from ((f"task.{key}", asked[key]) for key in ("form", "shots", "loss_on") if asked.get(key))
    if asked.get("prompt"):
        yield "prompt", asked["prompt"].get("name", "lm_eval")
    yield "method", cell["method"]
    if cell["rank"] is not None:
        yield "rank", cell["rank"]
    parts = (config.get("target") or {}).get("parts")
    if cell["target"] in TARGETS:
        yield "target", cell["target"]
    elif cell["target"] is not None and parts:  # null: where the method's paper puts it
        yield "target.parts", parts
    yield from [("scale", cell["scale"])] if cell.get("scale") else []
    quant = config.get("quant") or {}
    if cell.get("base"):
        yield "quant", quant.get("name", cell["base"])
        yield from [("quant.double", "true")] if quant.get("double") else []
    yield from [("optim", cell["optim"])] if cell.get("optim") else []
    yield from [("checkpointing", "true")] if cell.get("checkpointing") else []
    yield from _protocol(task, protocol)
    yield from [("retain", config["retain"])] if config.get("retain") else []
    precision = identity.get("precision", "auto")  # what was used: another machine may take auto to mean another
    yield from [("precision", precision)] if precision != "auto" else []


def _trials(members: Sequence[Record]) -> Iterator[tuple[str, Any]]:
    """Rates and seeds. A rate that a race has found is not named: a command that names none tunes."""
    rates = sorted({lr for one in members if one.trial and (lr := rate_of(one)) is not None})
    asked = {str(lrs) for one in members if isinstance(lrs := one.config.get("lrs"), str)}
    if race_of(members) is None and rates:
        yield "lrs", asked.pop() if len(asked) == 1 else rates
    if seeds := _seeds(members):
        yield "seeds", seeds


def _seeds(members: Sequence[Record]) -> list[int]:
    return sorted({one.trial["seed"] for one in members if one.trial})


def _protocol(task: Mapping[str, Any], protocol: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if (name := protocol.get("name", "standard")) != "standard":
        yield "protocol", name
    for key in FROM_TASK if name in {"standard", "quick"} else ():
        if key in task and protocol.get(key) != task[key]:
            yield f"protocol.{key}", "null" if protocol.get(key) is None else protocol[key]
    yield from ((f"protocol.{key}", protocol[key]) for key in UNSET if protocol.get(key) is not None)


def _worded(value: Any) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_worded, value))}]"
    text = str(value)
    if re.fullmatch(r"[\w./:~+-]*", text):
        return text
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))
