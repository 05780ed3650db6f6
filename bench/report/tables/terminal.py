"""Print tables on a terminal: as wide as their entries, with fewer columns in a narrow window."""

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bench.report.tables import table as report
from bench.report.tables.formats import notes_with_legend
from bench.report.tables.table import BEST, TIED, Entry

PIPE_WIDTH = 120  # smallest width of output that goes to a pipe
WIDEST = 10_000  # width while a table is printed, so that its lines are never broken
# Columns that a narrow terminal leaves out, in this order. Method, rank and score always stay.
DISPENSABLE = (
    "cell",
    "lr",
    "tuning",
    "%",
    "95%",
    "target",
    "outcome",
    "samples/s",
    "peak MiB",
    "peak MiB (resident)",
    "peak MiB (own)",
    "trainable",
)


def show(table: report.Table, console: Console) -> None:
    """Print a table with its notes.

    A narrow terminal shows fewer columns and a note that names the missing ones. A pipe gets all columns.
    """
    shown, notes = table.body, "\n".join(notes_with_legend(table))
    if console.is_terminal:
        shown, left_out = _narrow(table, console)
        if left_out:
            notes += f"\nLeft out on this narrow terminal: {', '.join(left_out)}; a wider one shows them."
    else:
        console.width = max(console.width, PIPE_WIDTH)
    console.print(f"\n{table.title}\n", soft_wrap=True)
    width, console.width = console.width, WIDEST
    console.print(_rich_table(shown, table.words), crop=False)
    console.width = width
    console.print(f"\n{notes}" if notes else "")


def _narrow(table: report.Table, console: Console) -> tuple[pd.DataFrame, list[str]]:
    """Drop columns until the table fits the console. Returns the remaining body and the dropped columns."""
    shown, left_out = table.body, []
    for column in DISPENSABLE:
        printed = _rich_table(shown, table.words)
        if Measurement.get(console, console.options.update(max_width=WIDEST), printed).maximum <= console.width:
            break
        if column in shown and not _misleads_without(shown, column):
            shown = shown.drop(columns=column)
            left_out.append(column)
    return shown, left_out


def _rich_table(shown: pd.DataFrame, words: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in map(str, shown.columns):
        table.add_column(name.replace(" (", "\n("), justify="left" if name in words else "right", no_wrap=True)
    for row in shown.to_numpy().tolist():
        table.add_row(*map(_marked, row))
    return table


def _marked(entry: str) -> Text:
    """Style an entry: the best in bold, tied entries with a star."""
    standing = entry.standing if isinstance(entry, Entry) else ""
    return Text(f"{entry}*" if standing == TIED else entry, style="bold" if standing == BEST else "")


def _misleads_without(shown: pd.DataFrame, column: str) -> bool:
    """Whether hiding a column would mislead.

    It would if rows differ in their tuning, differ only in their target, or have failed trials.
    """
    if column == "tuning":
        return len(shown["tuning"].unique()) > 1
    if column == "outcome":
        return not shown["outcome"].str.fullmatch(r"\d+ ok").all()
    return column == "target" and len(shown[["method", "rank", "target"]].drop_duplicates()) > len(
        shown[["method", "rank"]].drop_duplicates()
    )
