"""A study as one self-contained HTML page that works from disk: table, Pareto plot, cells, comparisons.

What is shown is decided here, how it is drawn in dashboard.js. Many cells share most of their configuration and
provenance, so that each distinct part is kept once, and cells name it by its number.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from bench.records import Record
from bench.report.frame import Study
from bench.report.looks import places
from bench.report.notes import mixture
from bench.report.reaches import reaches
from bench.report.standing import with_intervals
from bench.report.table import what_went_wrong

CURVE_POINTS = 100  # of a trial at most: more than a plot can show
MESSAGE, TRACEBACK = 600, 1500  # characters of an error that are kept: its beginning, and the end of its traceback
FROM_TASK = ("epochs", "train_rows", "batch", "max_length", "head_lr")  # what a protocol takes from the task
UNSET = ("steps", "tokens", "micro", "warmup_steps", "eval_steps")  # null where a protocol leaves them alone
TARGETS = ("q", "k", "v", "o", "qk", "qv", "qkvo", "mlp", "all")  # conf/target, but for default; a test holds the two


@dataclass
class Pool:
    """Values that many cells share, each kept once."""

    kept: list[Any] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        text = json.dumps(value, sort_keys=True)
        if text not in self.numbers:
            self.numbers[text] = len(self.kept)
            self.kept.append(value)
        return self.numbers[text]

    def sections(self, found: Iterable[Mapping[str, Any]]) -> list[int]:
        """Top-level entries of mappings; one that is not the same in all of them is there more than once."""
        return list(dict.fromkeys(self.number([key, value]) for one in found for key, value in one.items()))


def dashboard(study: Study, title: str = "peftgrid") -> str:
    """The page, whole: it asks for nothing but itself."""
    style, script = _own("dashboard.css"), _own("dashboard.js")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_own("dashboard.html.j2"))
    return page.render(
        title=title,
        policy=f"default-src 'none'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"style-src {_hashed(style)}; script-src {_hashed(script)}",
        style=style,
        script=script,
        data=embedded(payload(study, title)),
    )


def embedded(value: Any) -> str:
    """JSON that no text in it can end or leave, whatever a record says."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and lone surrogates are escaped
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def payload(study: Study, title: str) -> dict[str, Any]:
    """What the page knows. Rows and trials are lists in the order of `fields` and of `_trial`."""
    cells, pool = with_intervals(study).assign(table=pd.factorize(study.cells["table"])[0] + 1), Pool()
    return {
        "title": title,
        "notes": mixture([record for some in study.members.values() for record in some]),
        "fields": list(cells),
        "methods": sorted(cells["method"].unique()),
        "looks": places(cells["method"]),
        "cells": [
            {"row": [plain(value) for value in row.values()], **_cell(row, study.members[row["cell"]], pool)}
            for row in cells.to_dict("records")
        ],
        "pool": pool.kept,
        "tests": [test for key in dict.fromkeys(study.cells["table"]) if (test := reaches(study, key))],
    }


def command_of(members: Sequence[Record]) -> str:
    """The command that runs a cell again: its choices by name, without the axes that it does not use."""
    words = [f"{key}={_worded(value)}" for key, value in _choices(members)]
    return shlex.join(["python", "-m", "bench.run", *words])


def _choices(members: Sequence[Record]) -> Iterator[tuple[str, Any]]:
    cell, config, identity = members[0].cell, members[0].config, members[0].identity
    model, task, method, protocol = ({**(config.get(key) or {})} for key in ("model", "task", "method", "protocol"))
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
    trials = [one.trial for one in members if one.trial]
    rates = sorted({one["lr"] for one in trials if one["lr"] is not None})
    yield from [("lrs", rates)] if rates and rates != [method.get("lr")] else []
    yield from [("seeds", sorted({one["seed"] for one in trials}))] if trials else []


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


def _cell(row: Mapping[Any, Any], members: Sequence[Record], pool: Pool) -> dict[str, Any]:
    trials = sorted((one for one in members if one.trial), key=lambda one: _order(one.trial or {}))
    sizes = [len(one.predictions["report"]) for one in trials if one.predictions]
    data = [
        {"model": one.identity.get("model"), "data": (one.identity.get("task") or {}).get("data")} for one in members
    ]
    return {
        "title": row["title"],
        "went": what_went_wrong(row["outcome"]),
        "examples": sizes[0] if sizes else None,
        "config": pool.sections(one.config for one in members),
        "made": pool.sections([*({"identity": one} for one in data), *(one.provenance for one in members)]),
        "command": command_of(members),
        "trials": [_trial(one, pool) for one in trials],
    }


def _order(trial: Mapping[str, Any]) -> tuple[float, int]:
    return trial["lr"] or 0, trial["seed"]


def _trial(record: Record, pool: Pool) -> list[Any]:
    trial, cost, error = record.trial or {}, record.cost or {}, record.error
    scores = {} if record.cell["random"] else record.scores or {}
    told = (error.get("type") or "", (error.get("message") or "")[:MESSAGE]) if error else ()
    steps, losses = thinned(record.curve or {})
    return [
        *(trial[key] for key in ("lr", "seed")),
        record.outcome,
        *(scores.get(key) for key in ("select", "report", "best_epoch")),
        *(plain(cost.get(key)) for key in ("train_seconds", "eval_seconds", "pack")),
        pool.number([*told, (error.get("traceback") or "")[-TRACEBACK:]]) if error else None,
        pool.number(steps) if steps else None,
        losses,
    ]


def thinned(curve: Mapping[str, Sequence[float | None]]) -> tuple[list[float | None], list[float | None]]:
    """Steps and losses, at most CURVE_POINTS: each the mean of as many steps, at the last of them."""
    steps, losses = curve.get("step") or [], curve.get("loss") or []
    width = -(-len(steps) // CURVE_POINTS) or 1
    runs = [slice(start, start + width) for start in range(0, len(steps), width)]
    means = [[loss for loss in losses[run] if loss is not None] for run in runs]
    return [steps[run][-1] for run in runs], [float(f"{sum(one) / len(one):.4g}") if one else None for one in means]


def plain(value: Any, digits: int = 10) -> Any:
    """As JSON has it: what is missing is None, numbers are no longer than they need to be."""
    if pd.isna(value):
        return None
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return value.item() if hasattr(value, "item") else value


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _own(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")
