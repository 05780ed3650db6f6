"""Read local tables: TSV with a header line and no quoting, CSV with quoting, or parquet."""

import csv
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from bench.files.utf8 import read_utf8
from bench.tasks.loaders.locate import suffix_of
from bench.tasks.loaders.quotes import spanning_lines

NOTE = "note"  # key in a table's attrs: what a reader of the scores must know about the file


def read_table(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str] = ()) -> pd.DataFrame:
    """Read the given columns of a TSV file without quoting, a CSV file with quoting, or a parquet file.

    TSV and CSV files may be gzipped.

    Args:
        path: the file. Its suffix, in any case, determines the format. Anything but CSV and parquet is read as TSV.
        columns: our name of each column, with the names that the file may use for it.
        header: names of all columns, for files whose first line may already be data.

    Returns:
        The requested columns under our names. `attrs` has a NOTE if a CSV file has fewer rows than lines.

    Raises:
        ValueError: a column is missing, there are no rows, or the file cannot be read.
    """
    table = _read_file(path, columns)
    known = set(table.columns)
    if header and len(header) == len(known) and not known & {name for names in columns.values() for name in names}:
        table = _read_file(path, columns, header)
    if table.empty:
        raise ValueError(f"{path}: no rows below the header; point task.path at the whole file")
    file_names = {ours: _first(names, table) for ours, names in columns.items()}
    if missing := [ours for ours, name in file_names.items() if name is None]:
        required = ", ".join(names[0] for names in columns.values())
        raise ValueError(
            f"{path}: no column {' or '.join(map(repr, columns[missing[0]]))}; it has "
            f"{', '.join(map(str, table.columns))} (the first line must name {required})"
        )
    selected = pd.DataFrame({ours: table[name] for ours, name in file_names.items()})
    selected.attrs = table.attrs
    return selected


def _first(names: Sequence[str], table: pd.DataFrame) -> str | None:
    """Return the first of the names that is a column of the table; None if there is none."""
    return next((name for name in names if name in table.columns), None)


def _read_file(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str] = ()) -> pd.DataFrame:
    kind = suffix_of(path)
    if kind == ".parquet":
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError) as error:  # pyarrow's errors are subclasses of these
            raise _unreadable(path, error) from error
    content = read_utf8(path)
    try:
        if kind == ".csv":
            return _read_csv(path, content, columns, header)
        return _parsed(content, header, sep="\t", quoting=csv.QUOTE_NONE)
    except ValueError as error:  # pandas' errors are subclasses of it
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})")


def _read_csv(path: Path, content: bytes, columns: Mapping[str, Sequence[str]], header: Sequence[str]) -> pd.DataFrame:
    try:
        table = _parsed(content, header)
    except ValueError:
        if b'"' in content:
            spanning_lines(content)  # if a quote is the cause, this raises a clearer error
        raise
    lines = sum(1 for line in content.splitlines() if line.strip())
    if b'"' in content and lines != len(table) + (not header):
        label = _first(columns.get("label", ()), table)
        label_column = (set(table[label]), list(table.columns).index(label)) if label else ()
        if note := spanning_lines(content, *label_column):
            table.attrs[NOTE] = f"{path.name}: {note}"
    return table


def _parsed(content: bytes, header: Sequence[str], **settings: Any) -> pd.DataFrame:
    """Parse all columns as text, so that sentences that look like numbers keep their zeros."""
    table: pd.DataFrame = pd.read_csv(
        BytesIO(content),
        names=list(header) or None,
        header=None if header else 0,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8",
        **settings,
    )
    if not isinstance(table.index, pd.RangeIndex):  # pandas used the extra columns as an index
        raise ValueError("rows have more fields than the header line names")  # noqa: TRY004 - a user's mistake
    return table
