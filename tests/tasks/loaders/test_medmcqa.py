"""MedMCQA's files: where answers start counting, how parts are carved, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.config.schema import TaskConf
from bench.tasks.base import Task, words
from bench.tasks.loaders.medmcqa import CARVED, load

CONF = REPOSITORY / "conf" / "task" / "medmcqa.yaml"
SECRET = "the explanation"


def questions(count: int, first: int, part: str = "q") -> list[dict[str, Any]]:
    return [
        {
            "id": f"{part}{number}",
            "question": f"{part} number {number}?",
            **{f"op{letter}": f"{part} {number} {letter}" for letter in "abcd"},
            "cop": number % 4 + first,
            "choice_type": "multi" if number % 3 else "single",
            "exp": SECRET,
            "subject_name": None if number == 0 else "Anatomy",
        }
        for number in range(count)
    ]


def conf(folder: Path) -> TaskConf:
    task = OmegaConf.to_object(OmegaConf.merge(TaskConf, OmegaConf.load(CONF), {"path": str(folder), "select_rows": 8}))
    assert isinstance(task, TaskConf)
    return task


def write(folder: Path, **parts: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in parts.items():
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return folder


def refused(folder: Path, **more: Any) -> str:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        load(conf(folder), 0, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("first", [0, 1])
def test_answers_may_count_from_zero_or_from_one(first: int, tmp_path: Path) -> None:
    task = load(conf(write(tmp_path, train=questions(40, first), dev=questions(20, first, "d"))), 0)
    assert task.report.labels == [number % 4 for number in range(20)]
    assert task.report.options is not None
    assert task.report.options[1] == [f"d 1 {letter}" for letter in "abcd"]
    assert len(task.select) == 8
    assert len(task.train) == 32
    assert task.note is None


def test_json_and_parquet_hold_the_same(tmp_path: Path) -> None:
    lines = load(conf(write(tmp_path / "lines", train=questions(40, 1), dev=questions(20, 1, "d"))), 0)
    hub = tmp_path / "hub"
    hub.mkdir()
    pd.DataFrame(questions(40, 0)).to_parquet(hub / "train-00000-of-00001.parquet")
    pd.DataFrame(questions(20, 0, "d")).to_parquet(hub / "validation-00000-of-00001.parquet")
    assert load(conf(hub), 0) == lines


def test_all_parts_are_carved_from_a_lone_validation_set(tmp_path: Path) -> None:
    task = load(conf(write(tmp_path, dev=questions(60, 1))), 0)
    assert task.note == CARVED
    sizes = [len(part) for part in (task.train, task.select, task.report)]
    assert sizes == pytest.approx([22, 8, 30], abs=2)  # each label gives a whole number of rows
    parts = [set(part.texts) for part in (task.train, task.select, task.report)]
    assert len(set.union(*parts)) == 60


def test_questions_that_differ_only_in_punctuation_stay_together(tmp_path: Path) -> None:
    twins = [
        {**question, "question": f"Number {number // 2}{':' * (number % 2)}"}
        for number, question in enumerate(questions(60, 0))
    ]
    for seed in range(5):
        task = load(conf(write(tmp_path, dev=twins)), seed)
        parts = [{words(text) for text in part.texts} for part in (task.train, task.select, task.report)]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_subject_and_type_go_with_each_question(tmp_path: Path) -> None:
    report = load(conf(write(tmp_path, train=questions(40, 0), dev=questions(20, 0))), 0).report
    assert report.about["subject_name"][:2] == ["unknown", "Anatomy"]
    assert report.about["choice_type"][:3] == ["single", "multi", "multi"]


def test_the_explanation_is_not_read(tmp_path: Path) -> None:
    def everything(task: Task) -> str:
        return str([vars(part) for part in (task.train, task.select, task.report)])

    assert SECRET not in everything(load(conf(write(tmp_path, dev=questions(40, 0))), 0))


Change = Callable[[list[dict[str, Any]]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "no label": (lambda rows: rows[3].update(cop=None), "row 4 has no label"),
    "no option": (lambda rows: rows[2].update(opb=None), "row 3 has no opb"),
    "no column": (lambda rows: [row.pop("opd") for row in rows], "no column 'opd'; it has id, question"),
    "out of range": (lambda rows: rows[5].update(cop=7), "cop takes 0, 1, 2, 3, 7; it must be 0 to 3, or 1 to 4"),
    "unlabelled": (lambda rows: [row.update(cop=-1) for row in rows], "cop takes -1"),
    "either way": (lambda rows: [row.update(cop=2) for row in rows], "set task.load.first=0 or 1"),
    "empty": (lambda rows: rows.clear(), "no questions"),
    "a letter": (lambda rows: rows[4].update(cop="a"), 'row 5: cop is "a"; it must be a whole number'),
    "half a number": (lambda rows: rows[4].update(cop=0.5), "row 5: cop is 0.5; it must be a whole number"),
    "true": (lambda rows: rows[4].update(cop=True), "row 5: cop is true; it must be a whole number"),
    "a list": (lambda rows: rows[4].update(cop=[1]), "row 5: cop is [1]; it must be a whole number"),
    "a list as option": (lambda rows: rows[4].update(opc=["x"]), 'row 5: opc is ["x"]; every option must be'),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, expected = WRONG[name]
    rows = questions(40, 0)
    change(rows)
    write(tmp_path, dev=rows)
    if not rows:
        (tmp_path / "dev.json").write_text("")
    message = refused(tmp_path)
    assert expected in message
    assert "dev.json" in message


def test_invalid_utf8_and_invalid_json_are_refused_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path, dev=questions(4, 0)) / "dev.json"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"question": "caf\xe9"}\n')
    assert "line 5 is not UTF-8" in refused(tmp_path)
    path.write_bytes(whole + b"{oops\n")
    assert "line 5 is not JSON" in refused(tmp_path)


def test_the_first_answer_number_can_be_set(tmp_path: Path) -> None:
    rows = questions(40, 1)
    for row in rows:
        row["cop"] = 2
    folder = write(tmp_path, dev=rows)
    assert set(load(conf(folder), 0, first=1).report.labels) == {1}
    assert set(load(conf(folder), 0, first=0).report.labels) == {2}
    rows[0]["cop"] = 4
    assert "row 1 has cop 4; allowed: 0 to 3" in refused(write(tmp_path, dev=rows), first=0)


def test_a_number_may_be_a_decimal_or_a_text(tmp_path: Path) -> None:
    rows = questions(40, 0)
    expected = load(conf(write(tmp_path / "whole", dev=rows)), 0)
    for kind in (float, str, lambda cop: f"{cop}.0"):
        other = [{**row, "cop": kind(row["cop"])} for row in rows]
        assert load(conf(write(tmp_path / "other", dev=other)), 0) == expected


def test_a_numeric_option_is_kept_as_written(tmp_path: Path) -> None:
    rows = questions(40, 0)
    for number, row in enumerate(rows):
        row["opa"] = number if number % 2 else number + 0.5
    report = load(conf(write(tmp_path, train=rows, dev=rows)), 0).report
    assert report.options is not None
    assert [options[0] for options in report.options[:4]] == ["0.5", "1", "2.5", "3"]


def test_the_wrong_file_among_several_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    for name, first in (("train-0", 0), ("train-1", 0), ("validation-0", 0)):
        rows = questions(20, first, name)
        if name == "train-1":
            rows[6]["cop"] = 4
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    assert "train-1.parquet: row 7 has cop 4; allowed: 0 to 3" in refused(folder, first=0)
    rows[6]["cop"] = 9
    pd.DataFrame(rows).to_parquet(folder / "validation-0.parquet")
    assert "validation-0.parquet: cop takes 0, 1, 2, 3, 4, 9" in refused(folder)
