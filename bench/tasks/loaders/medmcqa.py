"""Multiple-choice questions in MedMCQA's fields, from JSON lines or parquet. The explanation is never read."""

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
CARVED = "train, select and report were all carved out of the validation set: scores compare with no published one"


def load(task: TaskConf, data_seed: int, first: int | None = None, part: str | None = None) -> Task:
    """Read the parts and carve select out of train; all three out of the report part where there is no train part.

    first: the number of the first option in `cop`, 0 or 1; None finds it out from the data. part: a column that names
    each row's part, where all rows lie in one file. ValueError: a file or a row that is not what it should be.
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
    """Read a file whose rows are whole: texts as texts, and cop as whole numbers."""
    # As objects, or a column of whole numbers and one that is none would become decimals.
    lines = path.suffix != ".parquet"
    table = pd.DataFrame(read_lines(path), dtype=object) if lines else pd.read_parquet(path)
    if table.empty:  # parquet
        raise ValueError(f"{path}: no questions; point task.path at the whole file")
    for name in ("question", *OPTIONS, "cop"):
        if name not in table:
            raise ValueError(f"{path}: no column {name!r}; it has {', '.join(map(str, table.columns))}")
        if (absent := table[name].isna()).any():
            row = int(absent.to_numpy().argmax()) + 1
            why = "no label: the test part has none, so it cannot be scored here" if name == "cop" else f"no {name}"
            raise ValueError(f"{path}: row {row} has {why}; remove it")
        table[name] = _column(table[name], _number if name == "cop" else _text, path)
    return table


def _column(column: pd.Series, read: Callable[[Any], Any], path: Path) -> list[Any]:
    """Every value read. ValueError: which file, row and column hold one that cannot be."""
    found = []
    for row, value in enumerate(column.tolist(), 1):
        try:
            found.append(read(value))
        except ValueError as error:
            raise ValueError(f"{path}: row {row}: {column.name} {error}") from error
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else option_text(value)  # published texts stay, even an empty one


def _number(cop: Any) -> int:
    """A whole number, also as a decimal or a text."""
    with suppress(ValueError, OverflowError):
        if isinstance(cop, (int, float, str)) and not isinstance(cop, bool) and float(cop) == int(float(cop)):
            return int(float(cop))
    raise ValueError(f"is {json.dumps(cop, default=str)}; it must be a whole number, 0 to 3 or 1 to 4")


def _first_option(tables: Mapping[Path, pd.DataFrame]) -> int:
    """The number of the first option: the hub counts from 0, the authors' files from 1. tables: by their files."""
    found = {cop for table in tables.values() for cop in table["cop"]}
    if found <= {0, 1, 2, 3} and 0 in found:
        return 0
    if found <= {1, 2, 3, 4} and 4 in found:
        return 1
    where = next((path for path, table in tables.items() if not set(table["cop"]) <= set(range(5))), next(iter(tables)))
    if found <= {1, 2, 3}:
        raise ValueError(
            f"{where}: cop is 1, 2 or 3 everywhere, which counts from 0 or from 1; set task.load.first=0 or 1"
        )
    raise ValueError(f"{where}: cop takes {', '.join(map(str, sorted(found)))}; it must be 0 to 3, or 1 to 4")


def _split(tables: Mapping[Path, pd.DataFrame], first: int) -> Split:
    """The rows of a part's files, one after the other."""
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
