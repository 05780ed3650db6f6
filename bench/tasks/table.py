"""Local tables, read whole: TSV with a header line and no quoting, CSV with quoting, or parquet."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def read_table(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str] = ()) -> pd.DataFrame:
    """Read a TSV file without quoting, a CSV file with it, or parquet; gives the columns asked for, under our names.

    columns: by our name, the names that the file may use. header: of all columns, where the first line may be data.
    ValueError: a column that is not there, no rows, or a file that cannot be read.
    """
    table = _read_file(path)
    known = set(table.columns)
    if header and len(header) == len(known) and not known & {name for names in columns.values() for name in names}:
        table = _read_file(path, header)
    if table.empty:
        raise ValueError(f"{path}: no rows below the header; point task.path at the whole file")
    found = {ours: next((name for name in names if name in table.columns), None) for ours, names in columns.items()}
    if missing := [ours for ours, name in found.items() if name is None]:
        named = ", ".join(names[0] for names in columns.values())
        raise ValueError(
            f"{path}: no column {' or '.join(map(repr, columns[missing[0]]))}; it has "
            f"{', '.join(map(str, table.columns))} (the first line must name {named})"
        )
    return pd.DataFrame({ours: table[name] for ours, name in found.items()})


def _read_file(path: Path, header: Sequence[str] = ()) -> pd.DataFrame:
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else _read_tsv(path, header)
    except UnicodeDecodeError as error:
        line = _broken_line(path)
        raise ValueError(f"{path}: line {line} is not UTF-8; convert it: iconv -f latin1 -t utf-8") from error
    except (ValueError, OSError) as error:  # what pandas and pyarrow raise are kinds of these
        raise ValueError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error


def _read_tsv(path: Path, header: Sequence[str]) -> pd.DataFrame:
    """All columns as text: a file whose sentences all look like numbers must not lose its zeros."""
    how: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    how |= {"sep": ","} if path.suffix == ".csv" else {"sep": "\t", "quoting": csv.QUOTE_NONE}
    table: pd.DataFrame = pd.read_csv(path, names=list(header) or None, header=None if header else 0, **how)
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the surplus columns for an index
        raise ValueError("rows have more fields than the header line names")  # noqa: TRY004 - the file is wrong
    return table


def _broken_line(path: Path) -> int:
    """Number of the first line that is not UTF-8, from 1; pandas tells the place within its cell only."""
    with path.open("rb") as lines:
        return next(number for number, line in enumerate(lines, 1) if line.decode(errors="ignore").encode() != line)
