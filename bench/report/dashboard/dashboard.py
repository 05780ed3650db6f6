"""Render a study as one self-contained HTML page that works from disk: table, Pareto plot, cells, comparisons.

This module decides what is shown; dashboard.js draws it. Cells share most of their configuration and provenance.
Each distinct part is therefore stored once, and cells refer to it by number.
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

CURVE_POINTS = 100  # maximum points per loss curve; a plot cannot show more
MESSAGE, TRACEBACK = 600, 1500  # characters kept of an error: the start of its message, the end of its traceback


@dataclass
class Pool:
    """Values that many cells share, each stored once.

    Attributes:
        kept: The values, in the order of their numbers.
        numbers: The number of each value, by its JSON text.
    """

    kept: list[Any] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, value: Any) -> int:
        """Return the number of a value, and store the value if it is new."""
        text = json.dumps(value, sort_keys=True)
        if text not in self.numbers:
            self.numbers[text] = len(self.kept)
            self.kept.append(value)
        return self.numbers[text]

    def sections(self, mappings: Iterable[Mapping[str, Any]]) -> list[int]:
        """Store the top-level entries of mappings.

        Args:
            mappings: Mappings that can be written as JSON.

        Returns:
            The numbers of the distinct [key, value] pairs. A key whose value differs between mappings is listed once
            per value.
        """
        return list(dict.fromkeys(self.number([key, value]) for mapping in mappings for key, value in mapping.items()))


def dashboard(study: Study, title: str = "peftgrid") -> str:
    """Render the page.

    Args:
        study: The cells to show.
        title: Title of the page.

    Returns:
        The HTML. It loads nothing from elsewhere.
    """
    style, script = _packaged("dashboard.css"), _packaged("dashboard.js")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_packaged("dashboard.html.j2"))
    return page.render(
        title=title,
        policy=f"default-src 'none'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"style-src {_policy_hash(style)}; script-src {_policy_hash(script)}",
        style=style,
        script=script,
        data=embedded(payload(study, title)),
    )


def embedded(value: Any) -> str:
    """Write a value as JSON that is safe inside a script element.

    Args:
        value: A JSON value without NaN and infinity.

    Returns:
        ASCII text without <, > and &, so that no text of a record can end the element.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and lone surrogates are escaped
    return re.sub("[<>&]", lambda character: f"\\u{ord(character[0]):04x}", text)


def payload(study: Study, title: str) -> dict[str, Any]:
    """Collect the data of the page.

    Args:
        study: The cells to show.
        title: Title of the page.

    Returns:
        Data for dashboard.js. Each row is a list in the order of `fields`, each trial a list in the order of `_trial`.
    """
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
    """Return the notes under the table of cells: tuning, flags, missing verdicts, mixed versions."""
    cells = study.cells
    tuned, scored = cells[cells["tuning"] == TUNED], cells[cells["report_score"].notna()]
    lines = [*rate_rules(study, tuned), *flag_notes(study, cells, named=False), *untuned_notes(scored)]
    return [*lines, *mixture([record for records in study.members.values() for record in records])]


def _cell(row: Mapping[Any, Any], members: Sequence[Record], pool: Pool) -> dict[str, Any]:
    """Return what the page shows of a cell besides its row."""
    trials = sorted((record for record in members if record.trial), key=lambda record: _order(record.trial or {}))
    sizes = [len(trial.predictions["report"]) for trial in trials if trial.predictions]
    untuned = how_untuned(row["tuning"], row["rates"])
    identities = [
        {"model": record.identity.get("model"), "data": (record.identity.get("task") or {}).get("data")}
        for record in members
    ]
    return {
        "title": row["title"],
        "went": what_went_wrong(row["outcome"]),
        "examples": sizes[0] if sizes else None,
        "config": pool.sections(record.config for record in members),
        "made": pool.sections(
            [*({"identity": identity} for identity in identities), *(record.provenance for record in members)]
        ),
        "command": command_of(members),
        "how": tuning_text(row["tuning"], row["rates"]),
        "untuned": untuned,
        "tune": tuning_command(members) if untuned else None,
        "flagged": [f"{flag}: {FLAGS[flag]}" for flag in listed(row["flags"])],
        "race": _race(members),
        "trials": [_trial(trial, pool) for trial in trials],
    }


def _race(members: Sequence[Record]) -> list[list[Any]]:
    """Return [rate, lowest loss on select, outcome] of each candidate in the cell's race; empty without a race."""
    record = race_of(members)
    candidates = (record.race or {})["candidates"] if record else []
    return [[candidate["lr"], json_value(candidate["lowest"]), candidate["outcome"]] for candidate in candidates]


def _order(trial: Mapping[str, Any]) -> tuple[float, int]:
    """Return the sort key of a trial: its learning rate, then its seed."""
    return trial["lr"] or 0, trial["seed"]


def _trial(record: Record, pool: Pool) -> list[Any]:
    """Return a trial as a list, in the order that dashboard.js expects."""
    trial, cost, error = record.trial or {}, record.cost or {}, record.error
    scores = {} if record.cell["random"] else record.scores or {}
    message = (error.get("type") or "", (error.get("message") or "")[:MESSAGE]) if error else ()
    steps, losses = thinned(record.curve or {})
    return [
        *(trial[key] for key in ("lr", "seed")),
        record.outcome,
        *(scores.get(key) for key in ("select", "report", "best_epoch")),
        *(json_value(cost.get(key)) for key in ("train_seconds", "eval_seconds", "pack")),
        pool.number([*message, (error.get("traceback") or "")[-TRACEBACK:]]) if error else None,
        pool.number(steps) if steps else None,
        losses,
    ]


def thinned(curve: Mapping[str, Sequence[float | None]]) -> tuple[list[float | None], list[float | None]]:
    """Thin a training curve to at most CURVE_POINTS points.

    Args:
        curve: The lists `step` and `loss`, equally long; empty if there is no curve.

    Returns:
        Steps and losses. Each loss is the mean over an equally long run of steps, at the last step of the run. It is
        None if the run has no loss.
    """
    steps, losses = curve.get("step") or [], curve.get("loss") or []
    width = -(-len(steps) // CURVE_POINTS) or 1
    runs = [slice(start, start + width) for start in range(0, len(steps), width)]
    known = [[loss for loss in losses[run] if loss is not None] for run in runs]
    means = [float(f"{sum(run_losses) / len(run_losses):.4g}") if run_losses else None for run_losses in known]
    return [steps[run][-1] for run in runs], means


def json_value(value: Any, digits: int = 10) -> Any:
    """Convert a value of a frame to JSON's types.

    Args:
        value: A scalar.
        digits: Significant digits that are kept of a float.

    Returns:
        The value; None if it is missing.
    """
    if pd.isna(value):
        return None
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return value.item() if hasattr(value, "item") else value


def _policy_hash(text: str) -> str:
    """Return the source expression that allows an inline style or script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packaged(name: str) -> str:
    """Read a file that lies next to this module."""
    return files("bench.report.dashboard").joinpath(name).read_text(encoding="utf-8")
