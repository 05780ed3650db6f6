"""GLUE's single-sentence tasks, from local files in GLUE's layout (TSV or parquet) or from the hub."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.hub import hub_errors
from bench.schema import TaskConf
from bench.tasks.files import locate
from bench.tasks.table import read_table
from bench.tasks.task import Split, Task, carve


def load(task: TaskConf, data_seed: int, text: str = "sentence") -> Task:
    """Read train and report, and carve select out of train.

    text: the column of the sentence. ValueError: a file that is not what the task says, or a hub out of reach.
    """
    if task.path is not None:
        parts = {part: _read_split(paths, text, task) for part, paths in locate(task.path, task.files).items()}
    else:
        parts = _from_hub(task, text)
    train, select = carve(parts["train"], task.select_rows, data_seed)
    return Task(train, select, parts["report"])


def _read_split(paths: Sequence[Path], text: str, task: TaskConf) -> Split:
    return _split(read_table(paths, (text, "label")), text, task, str(paths[0]))


def _split(table: pd.DataFrame, text: str, task: TaskConf, where: str) -> Split:
    labels = table["label"].astype(str)
    allowed = {name: number for number, label in enumerate(task.labels) for name in (label, str(number))}
    if not (known := labels.isin(list(allowed))).all():
        row = int((~known).to_numpy().argmax())
        raise ValueError(
            f"{where}: row {row + 1} has label {labels.iloc[row]!r}; allowed are {', '.join(allowed)} "
            "(-1 marks GLUE's unlabelled test file)"
        )
    return Split([str(sentence) for sentence in table[text]], [allowed[label] for label in labels])


def _from_hub(task: TaskConf, text: str) -> dict[str, Split]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    assert task.repo is not None
    assert task.revision is not None
    remedy = f"set task.path= to a folder with GLUE's {task.files['train'][0]} and {task.files['report'][0]}"
    with hub_errors(f"data set {task.repo!r}", task.revision, remedy=remedy):
        try:
            parts = load_dataset(task.repo, task.config, revision=task.revision)
        except DatasetNotFoundError as error:
            # The data library wraps the hub client's exception, which knows more.
            raise (error.__cause__ or FileNotFoundError(str(error))) from error
        except ValueError as error:
            raise FileNotFoundError(str(error)) from error
    tables = {"train": parts["train"].to_pandas(), "report": parts["validation"].to_pandas()}
    return {part: _split(table, text, task, f"{task.repo} {part}") for part, table in tables.items()}
