"""A study as one self-contained HTML page that works from disk: table, Pareto plot, cells, comparisons.

What is shown is decided here, how it is drawn in dashboard.js. Many cells share most of their configuration and
provenance, so that each distinct part is kept once, and cells name it by its number.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from bench.records.record import Record
from bench.report.figures.styles import places
from bench.report.flags import FLAGS, listed
from bench.report.record_frame import Study
from bench.report.rerun import command_of, tuning_command
from bench.report.stats.critical_values import reaches
from bench.report.stats.ties import untuned_notes, with_intervals
from bench.report.tables.notes import mixture
from bench.report.tables.rate_notes import flag_notes, rate_rules
from bench.report.tables.table import what_went_wrong
from bench.report.tuning import TUNED, how_untuned, race_of, tuning_text

CURVE_POINTS = 100  # of a trial at most: more than a plot can show
MESSAGE, TRACEBACK = 600, 1500  # characters of an error that are kept: its beginning, and the end of its traceback


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
        "notes": _notes(study),
        "fields": list(cells),
        "methods": sorted(cells["method"].unique()),
        "looks": places(cells["method"]),
        "cells": [
            {"row": [json_value(value) for value in row.values()], **_cell(row, study.members[row["cell"]], pool)}
            for row in cells.to_dict("records")
        ],
        "pool": pool.kept,
        "tests": [test for key in dict.fromkeys(study.cells["table"]) if (test := reaches(study, key))],
    }


def _notes(study: Study) -> list[str]:
    """What stands under the table of cells: how rates were found, what flags mean, what has no verdict, versions."""
    cells = study.cells
    tuned, scored = cells[cells["tuning"] == TUNED], cells[cells["report_score"].notna()]
    lines = [*rate_rules(study, tuned), *flag_notes(study, cells, named=False), *untuned_notes(scored)]
    return [*lines, *mixture([record for some in study.members.values() for record in some])]


def _cell(row: Mapping[Any, Any], members: Sequence[Record], pool: Pool) -> dict[str, Any]:
    trials = sorted((one for one in members if one.trial), key=lambda one: _order(one.trial or {}))
    sizes = [len(one.predictions["report"]) for one in trials if one.predictions]
    untuned = how_untuned(row["tuning"], row["rates"])
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
        "how": tuning_text(row["tuning"], row["rates"]),
        "untuned": untuned,
        "tune": tuning_command(members) if untuned else None,
        "flagged": [f"{flag}: {FLAGS[flag]}" for flag in listed(row["flags"])],
        "race": _race(members),
        "trials": [_trial(one, pool) for one in trials],
    }


def _race(members: Sequence[Record]) -> list[list[Any]]:
    """The candidates of the cell's race: rate, lowest loss on select, outcome; empty where none was held."""
    record = race_of(members)
    candidates = (record.race or {})["candidates"] if record else []
    return [[one["lr"], json_value(one["lowest"]), one["outcome"]] for one in candidates]


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
        *(json_value(cost.get(key)) for key in ("train_seconds", "eval_seconds", "pack")),
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


def json_value(value: Any, digits: int = 10) -> Any:
    """As JSON has it: what is missing is None, numbers are no longer than they need to be."""
    if pd.isna(value):
        return None
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return value.item() if hasattr(value, "item") else value


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _own(name: str) -> str:
    return files("bench.report.dashboard").joinpath(name).read_text(encoding="utf-8")
