"""Local tables, read whole: TSV with a header line and no quoting, or parquet."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def read_table(paths: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    """Read TSV files with a header line and no quoting, or parquet files, and see that the columns are there."""
    tables = [_read_file(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if missing := [column for column in columns if column not in table.columns]:
            raise ValueError(
                f"{path}: no column {missing[0]!r}; it has {', '.join(map(str, table.columns))} "
                f"(the first line must name {', '.join(columns)})"
            )
        if table.empty:
            raise ValueError(f"{path}: no rows below the header; point task.path at the whole file")
    return pd.concat(tables, ignore_index=True)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else _read_tsv(path)
    except UnicodeDecodeError as error:
        line = _broken_line(path)
        raise ValueError(f"{path}: line {line} is not UTF-8; convert it: iconv -f latin1 -t utf-8") from error
    except (ValueError, OSError) as error:  # what pandas and pyarrow raise are kinds of these
        raise ValueError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error


def _read_tsv(path: Path) -> pd.DataFrame:
    """All columns as text: a file whose sentences all look like numbers must not lose its zeros."""
    table = pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False, encoding="utf-8")
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the surplus columns for an index
        raise ValueError("rows have more fields than the header line names")  # noqa: TRY004 - the file is wrong
    return table


def _broken_line(path: Path) -> int:
    """Number of the first line that is not UTF-8, from 1; pandas tells the place within its cell only."""
    with path.open("rb") as lines:
        return next(number for number, line in enumerate(lines, 1) if line.decode(errors="ignore").encode() != line)
