"""GLUE's single-sentence tasks, from local files in GLUE's layout (TSV or parquet) or from the hub."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from bench.hub import fetch
from bench.schema import TaskConf
from bench.tasks.files import locate
from bench.tasks.table import read_table
from bench.tasks.task import Split, Task, carve


def load(task: TaskConf, data_seed: int, text: str = "sentence") -> Task:
    """Read train and report, and carve select out of train.

    text: the column of the sentence. ValueError: a file that is not what the task says, or a hub out of reach.
    """
    files = locate(task.path, task.files) if task.path is not None else _fetch(task)
    parts = {part: _read_split(paths, text, task) for part, paths in files.items()}
    train, select = carve(parts["train"], task.select_rows, data_seed)
    return Task(train, select, parts["report"])


def _read_split(paths: Sequence[Path], text: str, task: TaskConf) -> Split:
    pieces = [_split(read_table([path], (text, "label")), text, task, path) for path in paths]
    return Split([row for piece in pieces for row in piece.texts], [row for piece in pieces for row in piece.labels])


def _split(table: pd.DataFrame, text: str, task: TaskConf, where: Path) -> Split:
    empty = table[[text, "label"]].isna().any(axis="columns")
    if empty.any():
        raise ValueError(f"{where}: row {int(empty.to_numpy().argmax()) + 1} has no {text} or no label; remove it")
    labels = table["label"].astype(str)
    allowed = {name: number for number, label in enumerate(task.labels) for name in (label, str(number))}
    if not (known := labels.isin(list(allowed))).all():
        row = int((~known).to_numpy().argmax())
        raise ValueError(
            f"{where}: row {row + 1} has label {labels.iloc[row]!r}; allowed are {', '.join(allowed)} "
            "(-1 marks GLUE's unlabelled test file)"
        )
    return Split([str(sentence) for sentence in table[text]], [allowed[label] for label in labels])


def _fetch(task: TaskConf) -> dict[str, list[Path]]:
    """Fetch (or find in the local cache) the files of the folder `task.config` of the repository, at the revision.

    Not by datasets.load_dataset: without a network it takes the cached revision that is newest, not the one asked for.
    """
    from huggingface_hub import snapshot_download

    repo, revision = str(task.repo), str(task.revision)  # neither is None: data_identity has refused that
    folder = task.config or ""
    patterns = [str(PurePosixPath(folder, pattern)) for names in task.files.values() for pattern in names]
    download = partial(snapshot_download, repo, repo_type="dataset", revision=revision, allow_patterns=patterns)
    remedy = f"set task.path= to a folder with GLUE's {task.files['train'][0]} and {task.files['report'][0]}"
    root = fetch(download, repo, revision, kind="dataset", remedy=remedy)
    try:
        return locate(str(root / folder), task.files)
    except ValueError as error:
        wanted = " and ".join(" or ".join(names) for names in task.files.values())
        raise ValueError(
            f"data set {repo!r} has no {wanted} in {folder!r} at {revision}; "
            f"set task.config= to the folder that holds them, or {remedy}"
        ) from error
