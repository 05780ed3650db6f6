"""Load GLUE tasks from local files in GLUE's layout or from the hub.

A row has one text or two, and a class label or a number to predict.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config.schema import TaskConf
from bench.files.hashing import sha256
from bench.tasks.base import Split, Task, as_it_is, with_select, words
from bench.tasks.loaders.labels import class_numbers, first_rows, names_in, spellings
from bench.tasks.loaders.locate import file_notes, files_of
from bench.tasks.loaders.tables import NOTE, read_table

Names = str | Sequence[str]
Tables = Mapping[str, Mapping[Path, pd.DataFrame]]  # part -> file -> its rows


def load(
    task: TaskConf,
    data_seed: int,
    text: Names = "sentence",
    second: Names | None = None,
    label: Names = "label",
    header: Sequence[str] = (),
) -> Task:
    """Read all parts of a task from its files, and carve select out of train.

    If no file holds the report part, it is carved out of train as well.

    Args:
        task: names the files or the hub repository, and the labels.
        data_seed: determines which rows are carved out.
        text: name of the text column, or all names that it has in different files.
        second: the same for the second text; None if rows are single texts.
        label: the same for the label.
        header: names of all columns, for a TSV file without a header line.

    Raises:
        ValueError: a file does not match the task, or the hub cannot be reached.
    """
    names_by_column = {"text": text, "second": second, "label": label}
    columns = {column: _listed(names) for column, names in names_by_column.items() if names}
    files = files_of(task)
    tables = {
        part: {path: _read(path, columns, header) for path in dict.fromkeys(paths)} for part, paths in files.items()
    }
    labels = _classes(tables, task.labels) if task.labels else _numbers(tables)
    parts = {part: _split(tables[part], labels[part]) for part in tables}
    # Tasks with a report file use as_it_is, so that existing records stay valid.
    alike = as_it_is if "report" in parts else words
    notes = [*file_notes(task, files), *_notes(tables), *_unused(task.labels or [], labels["train"])]
    return with_select(parts, task.select_rows, data_seed, alike, notes)


def labels_of(task: TaskConf, label: Names = "label", header: Sequence[str] = (), **_: Any) -> list[str]:
    """Return the sorted labels of a task's training files. Whole numbers are sorted by value, others alphabetically.

    Args:
        task: names the files or the hub repository.
        label: name of the label column, or all names that it has in different files.
        header: names of all columns, for a TSV file without a header line.

    Raises:
        ValueError: the labels cannot be classes, or another part has labels that train lacks.
    """
    label_names, column_names = tuple(_listed(label)), tuple(header)
    spelled = {
        part: {path: _first_rows(path, sha256(path), label_names, column_names) for path in paths}
        for part, paths in files_of(task).items()
    }
    return names_in(spelled, task.name)


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


@lru_cache(maxsize=16)
def _first_rows(path: Path, content: str, label: Sequence[str], header: Sequence[str]) -> dict[str, int]:  # noqa: ARG001
    """Return the labels of a file. They are cached by content, because every cell of a grid needs them."""
    return first_rows(spellings(read_table(path, {"label": label}, header)["label"], path, label[0]))


def _read(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str]) -> pd.DataFrame:
    """Read a table without missing values, with its labels as text."""
    table = read_table(path, columns, header)
    for name in table:
        if name != "label" and (absent := table[name].isna()).any():
            row = int(absent.to_numpy().argmax()) + 1
            raise ValueError(f"{path}: row {row} has no {columns[str(name)][0]}; remove it")
    table["label"] = spellings(table["label"], path, columns["label"][0])
    return table


def _notes(tables: Tables) -> list[str]:
    """Return notes on the rows of the files, for a reader of the scores."""
    all_tables = [(path, table) for part_tables in tables.values() for path, table in part_tables.items()]
    notes = [table.attrs[NOTE] for _, table in all_tables if NOTE in table.attrs]
    for path, table in all_tables:
        counts = [int((table[name].astype(str).str.strip() == "").sum()) for name in table.columns.drop("label")]
        notes += [f"{path.name}: {count:,} of {len(table):,} rows have an empty text" for count in counts if count]
    return notes


def _unused(names: Sequence[str], labels: Sequence[float]) -> list[str]:
    """Return a note on the classes of task.labels without a row in train, if there are any."""
    used = set(labels)
    unused = [name for number, name in enumerate(names) if number not in used]
    return [f"no row of train has label {', '.join(unused)}, which task.labels lists"] if unused else []


def _split(tables: Mapping[Path, pd.DataFrame], labels: list[Any]) -> Split:
    """Join the tables of one part."""
    table = pd.concat(tables.values(), ignore_index=True).astype(str)
    return Split(table["text"].tolist(), labels, table["second"].tolist() if "second" in table else None)


def _classes(tables: Tables, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the labels of each part as class numbers."""
    spelled = {
        part: {path: first_rows(table["label"]) for path, table in part_tables.items()}
        for part, part_tables in tables.items()
    }
    numbers = class_numbers(spelled, names)
    return {
        part: [numbers[label] for table in part_tables.values() for label in table["label"]]
        for part, part_tables in tables.items()
    }


def _numbers(tables: Tables) -> dict[str, list[float]]:
    """Return the labels of each part as numbers to predict.

    Raises:
        ValueError: a label is not a finite number, or all labels of a part are equal.
    """
    numbers_by_part = {
        part: [number for path, table in part_tables.items() for number in _finite(table["label"], path)]
        for part, part_tables in tables.items()
    }
    for part, numbers in numbers_by_part.items():
        if len(set(numbers)) < 2:
            where = " and ".join(map(str, tables[part]))
            raise ValueError(
                f"{where}: every row has the number {numbers[0]}; a correlation needs at least two different numbers"
            )
    return numbers_by_part


def _finite(column: pd.Series, where: Path) -> list[float]:
    numbers = pd.to_numeric(column, errors="coerce").astype(float).tolist()
    wrong = next((row for row, number in enumerate(numbers) if not math.isfinite(number)), None)
    if wrong is not None:
        raise ValueError(f"{where}: row {wrong + 1} has label {column.iloc[wrong]!r}; this task needs a finite number")
    return numbers
