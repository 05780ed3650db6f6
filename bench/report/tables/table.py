"""A table before it is rendered: entries as text, in rows and columns, with notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

DASH = "-"
MIB = 2**20
BEST, TIED = "best", "tied"
CONTENDED = "~"  # marks a time or speed that was measured under other load


class Entry(str):
    """An entry of a table, with its standing among comparable cells.

    Attributes:
        standing: BEST, TIED (not significantly worse than the best), or empty.
    """

    __slots__ = ("standing",)
    standing: str

    def __new__(cls, text: str, standing: str = "") -> "Entry":
        entry = super().__new__(cls, text)
        entry.standing = standing
        return entry


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: Name on the command line.
        title: Title shown above the table.
        body: The entries, all of them text.
        notes: Lines shown under the table.
        words: Columns of words, which are aligned to the left. All others are aligned to the right.
    """

    name: str
    title: str
    body: pd.DataFrame
    notes: Sequence[str]
    words: Sequence[str] = ()


def text(value: Any, form: str = "{}") -> str:
    """Format a value; a dash if it is missing."""
    return DASH if pd.isna(value) else form.format(value)


def ratio_text(ratio: float) -> str:
    """Format a ratio to a readable precision: 1,935, 32, 3.16, 0.32, 0.0012."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def timed(cells: pd.DataFrame, key: str, form: str, scale: float = 1.0) -> "pd.Series[Any]":
    """Format a time or speed of each cell, marked if its measurement was disturbed.

    Args:
        cells: One row per cell.
        key: Column of the time or speed.
        form: Format of the value, such as "{:,.0f}".
        scale: Factor to multiply the value by, such as 1000 for milliseconds.
    """
    rows = zip(cells[key], cells["contended"], strict=True)
    texts = [timed_text(value * scale, form, contended=contended) for value, contended in rows]
    return pd.Series(texts, cells.index, dtype=object)


def timed_text(value: Any, form: str, *, contended: bool) -> str:
    """Format a time or speed, marked if its measurement was disturbed; a dash if it is missing."""
    return f"{CONTENDED if contended and pd.notna(value) else ''}{text(value, form)}"


def is_marked(entry: object) -> bool:
    """Whether an entry is marked as a disturbed measurement."""
    return isinstance(entry, str) and entry.startswith(CONTENDED)


def score_text(row: Mapping[Any, Any], standing: str = "", *, counted: bool = True) -> Entry:
    """Format the score of a cell as mean +- standard deviation (n), in percent.

    A cell without a score shows its failure, or a dash. Random weights have no score and show a dash.

    Args:
        row: The cell.
        standing: BEST, TIED, or empty.
        counted: Whether to show the number of seeds.
    """
    if pd.notna(row["report_score"]):
        spread = f" +- {100 * row['report_std']:.1f}" if pd.notna(row["report_std"]) else ""
        seeds = f" ({row['seeds']})" if counted else ""
        return Entry(f"{100 * row['report_score']:.1f}{spread}{seeds}", standing)
    return Entry(what_went_wrong(row["outcome"]))


def what_went_wrong(outcome: str | None) -> str:
    """Return the failure of a cell, such as OOM or DIVERGED; a dash if any trial ended well or none was run."""
    if outcome is None or pd.isna(outcome) or " ok" in outcome:
        return DASH
    return outcome.split(", ")[0].partition(" ")[2].upper()


def peak_of(cells: pd.DataFrame) -> tuple[str, "pd.Series[Any]"]:
    """Return the heading and the values, in MiB, of the most specific peak memory that is recorded.

    This is the peak on the accelerator. On a CPU it is the cell's own peak, without the memory the process held before
    the model was loaded. Old records have only the peak of the whole process.
    """
    if cells["peak_allocated_bytes"].notna().any():
        return "peak MiB", cells["peak_allocated_bytes"] / MIB
    if cells["peak_own_bytes"].notna().any():
        return "peak MiB (own)", cells["peak_own_bytes"] / MIB
    return "peak MiB (resident)", cells["peak_resident_bytes"] / MIB


def needed_bytes(cells: pd.DataFrame) -> "pd.Series[Any]":
    """Return the bytes a cell needs to run: the peak on the accelerator, or on a CPU that of the whole process."""
    if cells["peak_allocated_bytes"].notna().any():
        return cells["peak_allocated_bytes"]
    return cells["peak_resident_bytes"]


def metric_of(cells: pd.DataFrame) -> str:
    """Return the metric of the cells: `score` if they use several, `accuracy` if nothing has been scored."""
    known = cells["metric"].dropna().unique()
    return "score" if len(known) > 1 else str(known[0]) if len(known) else "accuracy"
