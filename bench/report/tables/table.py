"""What a table is before it has a format: texts in rows and columns, with what must be said under it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

DASH = "-"
MIB = 2**20
BEST, TIED = "best", "tied"
CONTENDED = "~"  # before a time or a speed that was measured beside other load


class Entry(str):
    """A text with its standing: BEST, TIED (it cannot be told from the best), or nothing."""

    __slots__ = ("standing",)
    standing: str

    def __new__(cls, text: str, standing: str = "") -> "Entry":
        made = super().__new__(cls, text)
        made.standing = standing
        return made


@dataclass(frozen=True)
class Table:
    """name: as on the command line. body: a text in every entry; columns in `words` are to the left. notes: lines."""

    name: str
    title: str
    body: pd.DataFrame
    notes: Sequence[str]
    words: Sequence[str] = ()


def text(value: Any, form: str = "{}") -> str:
    """A value as people read it, a dash where there is none."""
    return DASH if pd.isna(value) else form.format(value)


def ratio_text(ratio: float) -> str:
    """A ratio as people read it: 1,935, 32, 3.16, 0.32, 0.0012."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def timed(cells: pd.DataFrame, key: str, form: str, scale: float = 1.0) -> "pd.Series[Any]":
    """The texts of a time or a speed of every cell, marked where its measurement was disturbed."""
    rows = zip(cells[key], cells["contended"], strict=True)
    return pd.Series([timed_text(value * scale, form, contended=bad) for value, bad in rows], cells.index, dtype=object)


def timed_text(value: Any, form: str, *, contended: bool) -> str:
    """A time or a speed, marked where its measurement was disturbed; a dash where there is none."""
    return f"{CONTENDED if contended and pd.notna(value) else ''}{text(value, form)}"


def is_marked(entry: object) -> bool:
    """Whether an entry of a table is such a text."""
    return isinstance(entry, str) and entry.startswith(CONTENDED)


def score_text(row: Mapping[Any, Any], standing: str = "", *, counted: bool = True) -> Entry:
    """Mean +- standard deviation (n) in percent; what went wrong where there is no score; a dash for random weights."""
    if pd.notna(row["report_score"]):
        spread = f" +- {100 * row['report_std']:.1f}" if pd.notna(row["report_std"]) else ""
        seeds = f" ({row['seeds']})" if counted else ""
        return Entry(f"{100 * row['report_score']:.1f}{spread}{seeds}", standing)
    return Entry(what_went_wrong(row["outcome"]))


def what_went_wrong(outcome: str | None) -> str:
    """OOM, DIVERGED ... where that is all that happened; a dash where some trial ended well, or none was run."""
    if outcome is None or pd.isna(outcome) or " ok" in outcome:
        return DASH
    return outcome.split(", ")[0].partition(" ")[2].upper()


def peak_of(cells: pd.DataFrame) -> tuple[str, "pd.Series[Any]"]:
    """The name of the peak memory that is known, and its MiB.

    The accelerator's, or on a CPU the cell's own: without what the process held before the model was loaded. Old
    records have the whole process's alone.
    """
    if cells["peak_allocated_bytes"].notna().any():
        return "peak MiB", cells["peak_allocated_bytes"] / MIB
    if cells["peak_own_bytes"].notna().any():
        return "peak MiB (own)", cells["peak_own_bytes"] / MIB
    return "peak MiB (resident)", cells["peak_resident_bytes"] / MIB


def needed_bytes(cells: pd.DataFrame) -> "pd.Series[Any]":
    """What a cell needs to run: on the accelerator, or on a CPU of the whole process."""
    if cells["peak_allocated_bytes"].notna().any():
        return cells["peak_allocated_bytes"]
    return cells["peak_resident_bytes"]


def metric_of(cells: pd.DataFrame) -> str:
    """What cells are scored by: `score` where their tasks differ in it, accuracy where nothing has been scored."""
    known = cells["metric"].dropna().unique()
    return "score" if len(known) > 1 else str(known[0]) if len(known) else "accuracy"
