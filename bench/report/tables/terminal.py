"""Tables on a terminal: as wide as their entries, and still readable where the window is not."""

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

PIPE_WIDTH = 120  # at least, where no window is the limit
WIDEST = 10_000  # a table's lines are never broken
# What a narrow terminal goes without, in this order; method, rank and score always stay.
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


def show(asked: report.Table, console: Console) -> None:
    """Print a table. A narrow terminal gets fewer columns, and is told which; a pipe gets all of them."""
    shown, notes = asked.body, "\n".join(notes_with_legend(asked))
    if console.is_terminal:
        shown, left_out = _narrowed(asked, console)
        if left_out:
            notes += f"\nLeft out on this narrow terminal: {', '.join(left_out)}; a wider one shows them."
    else:
        console.width = max(console.width, PIPE_WIDTH)
    console.print(f"\n{asked.title}\n", soft_wrap=True)
    width, console.width = console.width, WIDEST
    console.print(_table(shown, asked.words), crop=False)
    console.width = width
    console.print(f"\n{notes}" if notes else "")


def _narrowed(asked: report.Table, console: Console) -> tuple[pd.DataFrame, list[str]]:
    """As many columns as the console has room for, and which it has none for."""
    shown, left_out = asked.body, []
    for column in DISPENSABLE:
        table = _table(shown, asked.words)
        if Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum <= console.width:
            break
        if column in shown and not _misleads_without(shown, column):
            shown = shown.drop(columns=column)
            left_out.append(column)
    return shown, left_out


def _table(shown: pd.DataFrame, words: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in map(str, shown.columns):
        table.add_column(name.replace(" (", "\n("), justify="left" if name in words else "right", no_wrap=True)
    for row in shown.to_numpy().tolist():
        table.add_row(*map(_marked, row))
    return table


def _marked(entry: str) -> Text:
    """The best in bold, what cannot be told from it with a star."""
    standing = entry.standing if isinstance(entry, Entry) else ""
    return Text(f"{entry}*" if standing == TIED else entry, style="bold" if standing == BEST else "")


def _misleads_without(shown: pd.DataFrame, column: str) -> bool:
    """Whether a reader needs the column: rows differ in their tuning or in their target alone, or did not end well."""
    if column == "tuning":
        return len(shown["tuning"].unique()) > 1
    if column == "outcome":
        return not shown["outcome"].str.fullmatch(r"\d+ ok").all()
    return column == "target" and len(shown[["method", "rank", "target"]].drop_duplicates()) > len(
        shown[["method", "rank"]].drop_duplicates()
    )
