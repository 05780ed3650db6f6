"""GLUE's tasks, from local files in GLUE's layout or from the hub: one text or two, labels or numbers."""

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
Tables = Mapping[str, Mapping[Path, pd.DataFrame]]


def load(
    task: TaskConf,
    data_seed: int,
    text: Names = "sentence",
    second: Names | None = None,
    label: Names = "label",
    header: Sequence[str] = (),
) -> Task:
    """Read train, report and whatever other parts the task's files have, and carve select out of train (and report,
    where no file holds it).

    text, second, label: a column's name, or all that it may have here and there; no second: the task is about single
    texts. header: all columns of a TSV without a header line. ValueError: a file that is not what the task says, or a
    hub out of reach.
    """
    named = {"text": text, "second": second, "label": label}
    columns = {ours: _listed(names) for ours, names in named.items() if names}
    files = files_of(task)
    tables = {
        part: {path: _read(path, columns, header) for path in dict.fromkeys(paths)} for part, paths in files.items()
    }
    labels = _classes(tables, task.labels) if task.labels else _numbers(tables)
    parts = {part: _split(tables[part], labels[part]) for part in tables}
    # By as_it_is where the report part is given: recorded cells were carved so.
    alike = as_it_is if "report" in parts else words
    return with_select(parts, task.select_rows, data_seed, alike, [*file_notes(task, files), *_notes(tables)])


def labels_of(task: TaskConf, label: Names = "label", header: Sequence[str] = (), **_: Any) -> list[str]:
    """The labels that a task's training files hold, in order: of numbers if they are whole numbers, else of letters.

    ValueError: they cannot be class labels, or the other parts' labels are not among them.
    """
    names, first = tuple(_listed(label)), tuple(header)
    spelled = {
        part: {path: _first_rows(path, sha256(path), names, first) for path in paths}
        for part, paths in files_of(task).items()
    }
    return names_in(spelled, task.name)


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


@lru_cache(maxsize=16)
def _first_rows(path: Path, content: str, label: Sequence[str], header: Sequence[str]) -> dict[str, int]:  # noqa: ARG001
    """A file's labels; read once per process as long as its content stays: every cell of a grid asks."""
    return first_rows(spellings(read_table(path, {"label": label}, header)["label"], path, label[0]))


def _read(path: Path, columns: Mapping[str, Sequence[str]], header: Sequence[str]) -> pd.DataFrame:
    """A table that lacks nothing, with its labels as text."""
    table = read_table(path, columns, header)
    for name in table:
        if name != "label" and (absent := table[name].isna()).any():
            row = int(absent.to_numpy().argmax()) + 1
            raise ValueError(f"{path}: row {row} has no {columns[str(name)][0]}; remove it")
    table["label"] = spellings(table["label"], path, columns["label"][0])
    return table


def _notes(tables: Tables) -> list[str]:
    """What a reader of the scores must know of the files' rows."""
    every = [(path, table) for each in tables.values() for path, table in each.items()]
    found = [table.attrs[NOTE] for _, table in every if NOTE in table.attrs]
    for path, table in every:
        counts = [int((table[name].astype(str).str.strip() == "").sum()) for name in table.columns.drop("label")]
        found += [f"{path.name}: {count:,} of {len(table):,} rows have an empty text" for count in counts if count]
    return found


def _split(tables: Mapping[Path, pd.DataFrame], labels: list[Any]) -> Split:
    whole = pd.concat(tables.values(), ignore_index=True).astype(str)
    return Split(whole["text"].tolist(), labels, whole["second"].tolist() if "second" in whole else None)


def _classes(tables: Tables, names: Sequence[str]) -> dict[str, list[int]]:
    """Each part's labels as class numbers."""
    spelled = {
        part: {path: first_rows(table["label"]) for path, table in each.items()} for part, each in tables.items()
    }
    numbers = class_numbers(spelled, names)
    return {
        part: [numbers[label] for table in each.values() for label in table["label"]] for part, each in tables.items()
    }


def _numbers(tables: Tables) -> dict[str, list[float]]:
    """Each part's labels as numbers to be predicted. ValueError: one is no number, or all of a part are the same."""
    found = {
        part: [number for path, table in each.items() for number in _finite(table["label"], path)]
        for part, each in tables.items()
    }
    for part, numbers in found.items():
        if len(set(numbers)) < 2:
            where = " and ".join(map(str, tables[part]))
            raise ValueError(f"{where}: every row has the number {numbers[0]}; a correlation needs two or more")
    return found


def _finite(column: pd.Series, where: Path) -> list[float]:
    numbers = pd.to_numeric(column, errors="coerce").astype(float).tolist()
    wrong = next((row for row, number in enumerate(numbers) if not math.isfinite(number)), None)
    if wrong is not None:
        raise ValueError(f"{where}: row {wrong + 1} has label {column.iloc[wrong]!r}; the task wants a number")
    return numbers
