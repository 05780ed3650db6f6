"""GLUE's tasks, from local files in GLUE's layout or from the hub: one text or two, labels or numbers."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.content import sha256
from bench.schema import TaskConf
from bench.tasks.files import files_of
from bench.tasks.table import read_table
from bench.tasks.task import Split, Task, as_it_is, with_select, words

Columns = Mapping[str, Sequence[str]]
LABELS = 1000


def load(
    task: TaskConf,
    data_seed: int,
    text: str | Sequence[str] = "sentence",
    second: str | Sequence[str] | None = None,
    label: str | Sequence[str] = "label",
    header: Sequence[str] = (),
) -> Task:
    """Read train, report and whatever other parts the task's files have, and carve select out of train (and report,
    where no file holds it).

    text, second, label: a column's name, or all that it may have here and there; no second: the task is about single
    texts. header: all columns of a TSV without a header line. ValueError: a file that is not what the task says, or a
    hub out of reach.
    """
    named = {"text": text, "second": second, "label": label}
    columns = {ours: [names] if isinstance(names, str) else list(names) for ours, names in named.items() if names}
    parts = {part: _read_split(paths, columns, header, task) for part, paths in files_of(task).items()}
    # By as_it_is where the report part is given: recorded cells were carved so.
    return with_select(parts, task.select_rows, data_seed, as_it_is if "report" in parts else words)


def labels_of(task: TaskConf, label: str | Sequence[str] = "label", header: Sequence[str] = (), **_: Any) -> list[str]:
    """The labels that a task's files hold, in order: of numbers if they are whole numbers, else of letters.

    ValueError: there are more than LABELS of them.
    """
    names = (label,) if isinstance(label, str) else tuple(label)
    paths = [path for paths in files_of(task).values() for path in paths]
    found = {name for path in paths for name in _distinct(path, sha256(path), names, tuple(header))}
    if len(found) > LABELS:
        raise ValueError(
            f"task {task.name!r} has {len(found):,} different labels; if they are numbers to be predicted, set "
            "task.labels=[] and task.metrics=[pearson]"
        )
    return sorted(found, key=lambda name: (int(name), "") if name.lstrip("-").isdigit() else (0, name))


@lru_cache(maxsize=16)
def _distinct(path: Path, content: str, label: Sequence[str], header: Sequence[str]) -> set[str]:  # noqa: ARG001
    """The labels in a file; read once per process as long as its content stays: every cell of a grid asks."""
    return set(read_table(path, {"label": label}, header)["label"].astype(str))


def _read_split(paths: Sequence[Path], columns: Columns, header: Sequence[str], task: TaskConf) -> Split:
    tables = {path: read_table(path, columns, header) for path in paths}
    labels = [label for path, table in tables.items() for label in _labels(table, columns, task, path)]
    whole = pd.concat(tables.values(), ignore_index=True).astype(str)
    return Split(whole["text"].tolist(), labels, whole["second"].tolist() if "second" in whole else None)


def _labels(table: pd.DataFrame, columns: Columns, task: TaskConf, where: Path) -> list[int] | list[float]:
    """The labels as numbers, in a table that lacks nothing."""
    for name in table:
        if (absent := table[name].isna()).any():
            row = int(absent.to_numpy().argmax()) + 1
            raise ValueError(f"{where}: row {row} has no {columns[str(name)][0]}; remove it")
    if not task.labels:
        return _numbers(table["label"], where)
    labels = table["label"].astype(str)
    allowed = {name: number for number, label in enumerate(task.labels) for name in (label, str(number))}
    if not (known := labels.isin(list(allowed))).all():
        row = int((~known).to_numpy().argmax())
        raise ValueError(
            f"{where}: row {row + 1} has label {labels.iloc[row]!r}; allowed are {', '.join(allowed)} "
            "(-1 marks GLUE's unlabelled test file)"
        )
    return [allowed[label] for label in labels]


def _numbers(column: pd.Series, where: Path) -> list[float]:
    numbers = pd.to_numeric(column, errors="coerce").astype(float).tolist()
    wrong = next((row for row, number in enumerate(numbers) if not math.isfinite(number)), None)
    if wrong is not None:
        raise ValueError(f"{where}: row {wrong + 1} has label {column.iloc[wrong]!r}; the task wants a number")
    return numbers
