"""GLUE's nine tasks as they lie on disk: the archive's TSV files and the hub's parquet files hold the same rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, WORDS
from omegaconf import OmegaConf

from bench.config.schema import TaskConf
from bench.tasks.base import Split, Task
from bench.tasks.loaders.glue import load

CONF = REPOSITORY / "conf" / "task"
WIDE = ["index", "promptID", "pairID", "genre", "binary1", "binary2", "parse1", "parse2"]
# Per task: the columns of the archive's TSV, the hub's columns, and whether the archive writes labels as words.
COLA = ["source", "label", "star", "sentence"]
SINGLE = ["sentence", "label"]
PAIR = ["index", "sentence1", "sentence2", "label"]
LAYOUTS: dict[str, tuple[list[str], list[str], bool]] = {
    "cola": (COLA, ["sentence", "label"], False),
    "sst2": (SINGLE, SINGLE, False),
    "mrpc": (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["sentence1", "sentence2", "label"], False),
    "qnli": (["index", "question", "sentence", "label"], ["question", "sentence", "label"], True),
    "qqp": (
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["question1", "question2", "label"],
        False,
    ),
    "rte": (PAIR, ["sentence1", "sentence2", "label"], True),
    "wnli": (PAIR, ["sentence1", "sentence2", "label"], False),
    "stsb": (
        ["index", "genre", "file", "year", "old", "source1", "source2", "sentence1", "sentence2", "score"],
        ["sentence1", "sentence2", "label"],
        False,
    ),
    "mnli": (
        [*WIDE, "sentence1", "sentence2", "label1", "gold_label"],
        ["premise", "hypothesis", "label"],
        True,
    ),
}
FIRST = ("sentence", "sentence1", "premise", "question", "question1", "#1 String")
SECOND = ("sentence2", "hypothesis", "question2", "#2 String")
LABEL = ("label", "gold_label", "Quality", "is_duplicate", "score")
ROWS = 60


def conf(name: str, folder: Path) -> TaskConf:
    merged = OmegaConf.merge(TaskConf, OmegaConf.load(CONF / f"{name}.yaml"), {"path": str(folder), "select_rows": 12})
    task = OmegaConf.to_object(merged)
    assert isinstance(task, TaskConf)
    return task


def table(name: str, columns: list[str], words: list[str] | None, part: str) -> pd.DataFrame:
    """Return rows with every column filled: texts, labels, and filler in columns that nobody reads."""
    labels = np.arange(ROWS) % 3 if name == "mnli" else np.arange(ROWS) % 2
    values: list[object] = [words[label] for label in labels] if words else labels.tolist()
    if name == "stsb":
        values = [round(float(5 * row / ROWS), 3) for row in range(ROWS)]
    texts = [f'{part} text {row} "quoted {WORDS[row % len(WORDS)]}' for row in range(ROWS)]

    def column(place: int, key: str) -> list[object]:
        if key in LABEL:
            return values
        second = key in SECOND or (name == "qnli" and key == "sentence")
        return [f"{text} other" for text in texts] if second else texts if key in FIRST else [f"{key} {place}"] * ROWS

    return pd.DataFrame({key: column(place, key) for place, key in enumerate(columns)})


def files(name: str) -> dict[str, tuple[str, str]]:
    """Return the archive's file and the hub's file of each part."""
    if name == "mnli":
        ends = {"report": "matched", "mismatched": "mismatched"}
        rest = {part: (f"dev_{end}.tsv", f"validation_{end}-00000-of-00001.parquet") for part, end in ends.items()}
    else:
        rest = {"report": ("dev.tsv", "validation-00000-of-00001.parquet")}
    return {"train": ("train.tsv", "train-00000-of-00001.parquet"), **rest}


def written(name: str, folder: Path) -> tuple[Task, Task]:
    """Write a task in both layouts and return it as read from the archive's and from the hub's."""
    archive, hub, in_words = LAYOUTS[name]
    task, tasks = conf(name, folder), []
    for kind in ("archive", "hub"):
        (folder / kind).mkdir(parents=True)
        for part, (tsv, parquet) in files(name).items():
            if kind == "hub":
                table(name, hub, None, part).to_parquet(folder / kind / parquet)
            else:
                rows = table(name, archive, task.labels if in_words else None, part)
                lines = ["\t".join(map(str, row)) for row in rows.itertuples(index=False)]
                head = [] if name == "cola" else ["\t".join(archive)]
                mark = "\ufeff" if name == "mrpc" else ""  # as in the original MRPC files
                (folder / kind / tsv).write_text(mark + "\n".join([*head, *lines, ""]), encoding="utf-8")
        tasks.append(load(conf(name, folder / kind), 0, **call(task)))
    return tasks[0], tasks[1]


def call(task: TaskConf) -> dict[str, Any]:
    return {key: value for key, value in task.load.items() if key != "_target_"}


def parts(task: Task) -> dict[str, Split]:
    return {"train": task.train, "select": task.select, "report": task.report, **task.further}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_archive_and_the_hub_hold_the_same(name: str, tmp_path: Path) -> None:
    archive, hub = map(parts, written(name, tmp_path))
    assert archive == hub
    assert len(archive["report"]) == ROWS
    assert len(archive["train"]) + len(archive["select"]) == ROWS
    assert ("mismatched" in archive) is (name == "mnli")
    report = archive["report"]
    assert report.texts[3] == 'report text 3 "quoted film'
    if LAYOUTS[name][1] == SINGLE or name == "cola":
        assert report.second is None
    else:
        assert report.second is not None
        assert report.second[3] == 'report text 3 "quoted film other'
    expected = {"mnli": 0, "stsb": 0.25}.get(name, 1)
    assert report.labels[3] == expected


def test_every_task_of_glue_has_a_yaml_whose_labels_and_metrics_fit() -> None:
    yaml_names = {path.stem for path in CONF.glob("*.yaml")}
    assert set(LAYOUTS) <= yaml_names
    metrics = {name: [metric.value for metric in conf(name, Path()).metrics] for name in LAYOUTS}
    assert metrics["cola"][0] == "matthews_correlation"
    assert metrics["stsb"] == ["pearson", "spearman"]
    assert metrics["mrpc"] == metrics["qqp"] == ["accuracy", "f1"]


def broken(name: str, folder: Path, change: Callable[[str], str]) -> str:
    """Return the error message for a task whose report file was changed."""
    written(name, folder)
    path = folder / "archive" / "dev.tsv"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    task = conf(name, folder / "archive")
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        load(task, 0, **call(task))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_label_that_is_not_a_number_is_reported_with_its_row(tmp_path: Path) -> None:
    message = broken("stsb", tmp_path, lambda text: text.replace("0.25\n", "high\n"))
    assert "row 4 has label 'high'" in message
    assert "dev.tsv" in message


def test_a_row_without_a_label_is_reported(tmp_path: Path) -> None:
    message = broken("rte", tmp_path, lambda text: text.replace("other\tentailment", "other", 1))
    assert "row 1 has no label" in message


def test_a_missing_second_column_is_reported_with_all_its_names(tmp_path: Path) -> None:
    message = broken("mrpc", tmp_path, lambda text: text.replace("#2 String", "another", 1))
    assert "no column 'sentence2' or '#2 String'" in message
    assert "it has Quality" in message
