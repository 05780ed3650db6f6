"""Load multiple-choice questions with MedMCQA's fields, from JSON lines or parquet. Explanations are never read."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config.schema import TaskConf
from bench.files.jsonl import read_lines
from bench.tasks.base import Split, Task, carve, with_select, words
from bench.tasks.loaders.locate import file_notes, files_of
from bench.tasks.loaders.options import option_text

OPTIONS = ("opa", "opb", "opc", "opd")
ABOUT = ("subject_name", "choice_type")
CARVED = (
    "train, select and report were all carved out of the validation set: scores are not comparable with published ones"
)


def load(task: TaskConf, data_seed: int, first: int | None = None, part: str | None = None) -> Task:
    """Read all parts, and carve select out of train. Without a train part, carve all three out of the report part.

    Args:
        task: names the files or the hub repository.
        data_seed: determines which rows are carved out.
        first: number of the first option in `cop`, 0 or 1. None infers it from the data.
        part: a column with the part of each row, if one file holds all rows.

    Raises:
        ValueError: a file or a row does not have the expected fields.
    """
    files = {name: {path: _read(path) for path in paths} for name, paths in files_of(task).items()}
    tables = {path: table for part_tables in files.values() for path, table in part_tables.items()}
    base = _first_option(tables) if first is None else first
    parts = {name: _split(part_tables, base) for name, part_tables in files.items()}
    if part is not None:
        rows = pd.concat(files["all"].values(), ignore_index=True)[part]
        train, select, report = (
            parts["all"].take(rows.index[rows == name].tolist()) for name in ("train", "select", "report")
        )
        return Task(train, select, report)
    notes = file_notes(task, {name: list(part_tables) for name, part_tables in files.items()})
    if "train" not in parts:
        parts["train"], parts["report"] = carve(parts["report"], len(parts["report"]) // 2, data_seed, words)
        return with_select(parts, task.select_rows, data_seed, notes=[*notes, CARVED])
    return with_select(parts, task.select_rows, data_seed, notes=notes)


def _read(path: Path) -> pd.DataFrame:
    """Read a file without missing values: texts as strings, and cop as integers."""
    # Without dtype=object, a column of integers with a null would become floats.
    is_parquet = path.suffix == ".parquet"
    table = pd.read_parquet(path) if is_parquet else pd.DataFrame(read_lines(path), dtype=object)
    if table.empty:  # only parquet: read_lines rejects empty files
        raise ValueError(f"{path}: no questions; point task.path at the whole file")
    for name in ("question", *OPTIONS, "cop"):
        if name not in table:
            raise ValueError(f"{path}: no column {name!r}; it has {', '.join(map(str, table.columns))}")
        if (absent := table[name].isna()).any():
            row = int(absent.to_numpy().argmax()) + 1
            problem = "no label: the test part has none, so it cannot be scored here" if name == "cop" else f"no {name}"
            raise ValueError(f"{path}: row {row} has {problem}; remove it")
        table[name] = _column(table[name], _number if name == "cop" else _text, path)
    return table


def _column(column: pd.Series, read: Callable[[Any], Any], path: Path) -> list[Any]:
    """Convert every value of a column.

    Raises:
        ValueError: a value cannot be converted. The message names the file, the row and the column.
    """
    values = []
    for row, value in enumerate(column.tolist(), 1):
        try:
            values.append(read(value))
        except ValueError as error:
            raise ValueError(f"{path}: row {row}: {column.name} {error}") from error
    return values


def _text(value: Any) -> str:
    return value if isinstance(value, str) else option_text(value)  # published texts are kept, even if empty


def _number(cop: Any) -> int:
    """Return a whole number, which may be given as a float or a string."""
    with suppress(ValueError, OverflowError):
        if isinstance(cop, (int, float, str)) and not isinstance(cop, bool) and float(cop) == int(float(cop)):
            return int(float(cop))
    raise ValueError(f"is {json.dumps(cop, default=str)}; it must be a whole number, 0 to 3 or 1 to 4")


def _first_option(tables: Mapping[Path, pd.DataFrame]) -> int:
    """Infer the number of the first option: the hub's files count from 0, the authors' from 1. tables: by file."""
    numbers = {cop for table in tables.values() for cop in table["cop"]}
    if numbers <= {0, 1, 2, 3} and 0 in numbers:
        return 0
    if numbers <= {1, 2, 3, 4} and 4 in numbers:
        return 1
    where = next((path for path, table in tables.items() if not set(table["cop"]) <= set(range(5))), next(iter(tables)))
    if numbers <= {1, 2, 3}:
        raise ValueError(
            f"{where}: cop is always 1, 2 or 3, so it may count from 0 or from 1; set task.load.first=0 or 1"
        )
    raise ValueError(f"{where}: cop takes {', '.join(map(str, sorted(numbers)))}; it must be 0 to 3, or 1 to 4")


def _split(tables: Mapping[Path, pd.DataFrame], first: int) -> Split:
    """Join the tables of a part's files, in order."""
    for path, table in tables.items():
        for row, cop in enumerate(table["cop"], 1):
            if not first <= cop < first + len(OPTIONS):
                raise ValueError(f"{path}: row {row} has cop {cop}; allowed: {first} to {first + len(OPTIONS) - 1}")
    table = pd.concat(tables.values(), ignore_index=True)
    return Split(
        table["question"].tolist(),
        [int(cop) - first for cop in table["cop"]],
        options=table[list(OPTIONS)].to_numpy().tolist(),
        about={name: table[name].fillna("unknown").astype(str).tolist() for name in ABOUT if name in table},
    )
