"""Load the built-in task: review sentences written for this package, with fixed parts."""

import pandas as pd

from bench.config.schema import TaskConf
from bench.tasks.base import Split, Task
from bench.tasks.loaders.locate import locate
from bench.tasks.loaders.tables import read_table


def load(task: TaskConf, data_seed: int) -> Task:  # noqa: ARG001 - the parts are fixed
    """Read the three parts from reviews.tsv."""
    (path,) = locate(str(task.path), task.files)["all"]
    table = read_table(path, {name: [name] for name in ("part", "label", "text")})
    train, select, report = (_split(table[table["part"] == part]) for part in ("train", "select", "report"))
    return Task(train, select, report)


def _split(table: pd.DataFrame) -> Split:
    return Split(table["text"].tolist(), table["label"].astype(int).tolist())
