"""The embedded task: review sentences of our own, with fixed parts."""

import pandas as pd

from bench.schema import TaskConf
from bench.tasks.files import locate
from bench.tasks.table import read_table
from bench.tasks.task import Split, Task


def load(task: TaskConf, data_seed: int) -> Task:  # noqa: ARG001 - the parts are fixed
    """Read reviews.tsv."""
    table = read_table(locate(str(task.path), task.files)["all"], ("part", "label", "text"))
    return Task(**{part: _split(table[table["part"] == part]) for part in ("train", "select", "report")})


def _split(table: pd.DataFrame) -> Split:
    return Split(table["text"].tolist(), table["label"].astype(int).tolist())
