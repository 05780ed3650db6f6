"""Multiple-choice questions in MedMCQA's fields, from JSON lines or parquet. The explanation is never read."""

from pathlib import Path

import pandas as pd

from bench.schema import TaskConf
from bench.tasks.files import file_notes, files_of
from bench.tasks.lines import read_lines
from bench.tasks.task import Split, Task, carve, with_select, words

OPTIONS = ("opa", "opb", "opc", "opd")
ABOUT = ("subject_name", "choice_type")
CARVED = "train, select and report were all carved out of the validation set: scores compare with no published one"


def load(task: TaskConf, data_seed: int, first: int | None = None, part: str | None = None) -> Task:
    """Read the parts and carve select out of train; all three out of the report part where there is no train part.

    first: the number of the first option in `cop`, 0 or 1; None finds it out from the data. part: a column that names
    each row's part, where all rows lie in one file. ValueError: a file or a row that is not what it should be.
    """
    files = files_of(task)
    tables = {name: pd.concat([_read(path) for path in paths], ignore_index=True) for name, paths in files.items()}
    base = _first_option(tables, files) if first is None else first
    parts = {name: _split(table, base, files[name][0]) for name, table in tables.items()}
    if part is not None:
        rows = tables["all"][part]
        train, select, report = (
            parts["all"].take(rows.index[rows == name].tolist()) for name in ("train", "select", "report")
        )
        return Task(train, select, report)
    notes = file_notes(task, files)
    if "train" not in parts:
        parts["train"], parts["report"] = carve(parts["report"], len(parts["report"]) // 2, data_seed, words)
        return with_select(parts, task.select_rows, data_seed, notes=[*notes, CARVED])
    return with_select(parts, task.select_rows, data_seed, notes=notes)


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.DataFrame(read_lines(path))
    if table.empty:  # parquet
        raise ValueError(f"{path}: no questions; point task.path at the whole file")
    for name in ("question", *OPTIONS, "cop"):
        if name not in table:
            raise ValueError(f"{path}: no column {name!r}; it has {', '.join(map(str, table.columns))}")
        if (absent := table[name].isna()).any():
            row = int(absent.to_numpy().argmax()) + 1
            why = "no label: the test part has none, so it cannot be scored here" if name == "cop" else f"no {name}"
            raise ValueError(f"{path}: row {row} has {why}; remove it")
    return table


def _first_option(tables: dict[str, pd.DataFrame], files: dict[str, list[Path]]) -> int:
    """The number of the first option: the hub counts from 0, the authors' files from 1."""
    where = next(iter(files.values()))[0]
    found = {int(answer) for table in tables.values() for answer in table["cop"]}
    if found <= {0, 1, 2, 3} and 0 in found:
        return 0
    if found <= {1, 2, 3, 4} and 4 in found:
        return 1
    if found <= {1, 2, 3}:
        raise ValueError(
            f"{where}: cop is 1, 2 or 3 everywhere, which counts from 0 or from 1; set task.load.first=0 or 1"
        )
    raise ValueError(f"{where}: cop takes {', '.join(map(str, sorted(found)))}; it must be 0 to 3, or 1 to 4")


def _split(table: pd.DataFrame, first: int, where: Path) -> Split:
    answers = [int(answer) - first for answer in table["cop"]]
    if wrong := [row for row, answer in enumerate(answers, 1) if not 0 <= answer < len(OPTIONS)]:
        raise ValueError(
            f"{where}: row {wrong[0]} has cop {answers[wrong[0] - 1] + first}; allowed: {first} to {first + 3}"
        )
    return Split(
        table["question"].astype(str).tolist(),
        answers,
        options=table[list(OPTIONS)].astype(str).to_numpy().tolist(),
        about={name: table[name].fillna("unknown").astype(str).tolist() for name in ABOUT if name in table},
    )
