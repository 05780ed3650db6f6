"""Local tables, read whole: TSV with a header line and no quoting, CSV with quoting, or parquet."""

import csv
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from bench.files.utf8 import read_utf8
from bench.tasks.loaders.locate import suffix_of
from bench.tasks.loaders.quotes import spanning_lines

NOTE = "note"  # in a table's attrs: what a reader of the scores must know of the file


def read_table(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str] = ()) -> pd.DataFrame:
    """Read a TSV file without quoting, a CSV file with it (either may be gzipped), or parquet.

    Args:
        path: the file; its suffix, in any case, says what it is, and what is neither CSV nor parquet is TSV.
        columns: by our name, the names that the file may use.
        header: the names of all columns, where the first line may be data.

    Returns:
        The columns asked for, under our names. `attrs` has a NOTE where rows are fewer than lines.

    Raises:
        ValueError: a column that is not there, no rows, or a file that cannot be read.
    """
    table = _read_file(path, columns)
    known = set(table.columns)
    if header and len(header) == len(known) and not known & {name for names in columns.values() for name in names}:
        table = _read_file(path, columns, header)
    if table.empty:
        raise ValueError(f"{path}: no rows below the header; point task.path at the whole file")
    found = {ours: _first(names, table) for ours, names in columns.items()}
    if missing := [ours for ours, name in found.items() if name is None]:
        named = ", ".join(names[0] for names in columns.values())
        raise ValueError(
            f"{path}: no column {' or '.join(map(repr, columns[missing[0]]))}; it has "
            f"{', '.join(map(str, table.columns))} (the first line must name {named})"
        )
    wanted = pd.DataFrame({ours: table[name] for ours, name in found.items()})
    wanted.attrs = table.attrs
    return wanted


def _first(names: Sequence[str], table: pd.DataFrame) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _read_file(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str] = ()) -> pd.DataFrame:
    kind = suffix_of(path)
    if kind == ".parquet":
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError) as error:  # what pyarrow raises are kinds of these
            raise _unreadable(path, error) from error
    content = read_utf8(path)
    try:
        if kind == ".csv":
            return _read_csv(path, content, columns, header)
        return _parsed(content, header, sep="\t", quoting=csv.QUOTE_NONE)
    except ValueError as error:  # what pandas raises are kinds of it
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})")


def _read_csv(path: Path, content: bytes, columns: Mapping[str, Sequence[str]], header: Sequence[str]) -> pd.DataFrame:
    try:
        table = _parsed(content, header)
    except ValueError:
        if b'"' in content:
            spanning_lines(content)  # where a quote is the cause, it says so
        raise
    lines = sum(1 for line in content.splitlines() if line.strip())
    if b'"' in content and lines != len(table) + (not header):
        label = _first(columns.get("label", ()), table)
        known = (set(table[label]), list(table.columns).index(label)) if label else ()
        if note := spanning_lines(content, *known):
            table.attrs[NOTE] = f"{path.name}: {note}"
    return table


def _parsed(content: bytes, header: Sequence[str], **how: Any) -> pd.DataFrame:
    """All columns as text: a file whose sentences all look like numbers must not lose its zeros."""
    table: pd.DataFrame = pd.read_csv(
        BytesIO(content),
        names=list(header) or None,
        header=None if header else 0,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8",
        **how,
    )
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the surplus columns for an index
        raise ValueError("rows have more fields than the header line names")  # noqa: TRY004 - the file is wrong
    return table
