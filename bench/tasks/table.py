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
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False, encoding="utf-8")
    except UnicodeDecodeError as error:
        row = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}: line {row} is not UTF-8; convert it: iconv -f latin1 -t utf-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
