"""A user's own files need only a path and column names. Errors name the file, the row and the remedy."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.config import compose as grid
from bench.config.schema import TaskConf
from bench.runner.build import load_data
from bench.tasks.base import CARVED, Task
from bench.tasks.loaders import glue
from bench.tasks.loaders import user_files as own

CONF = REPOSITORY / "conf" / "task"


def conf(name: str, path: Path, **more: Any) -> TaskConf:
    merged = OmegaConf.merge(
        TaskConf, OmegaConf.load(CONF / f"{name}.yaml"), {"path": str(path), "select_rows": 8, **more}
    )
    task = OmegaConf.to_object(merged)
    assert isinstance(task, TaskConf)
    return task


def texts(path: Path, rows: int = 60, kind: str = "text") -> Path:
    lines = [
        f'"A {kind}, number {row}, said ""so""",{("bad", "good", "so so")[row % 3]},{row / 10}' for row in range(rows)
    ]
    path.write_text("\n".join(["what,how,much", *lines, ""]), encoding="utf-8")
    return path


def cell(path: Path, *words: str) -> Any:
    (composed,) = grid.cells([f"task.path={path}", "task.select_rows=8", "track=off", *words], multirun=False)
    return composed


def test_one_csv_is_enough(tmp_path: Path) -> None:
    path = texts(tmp_path / "mine.csv")
    composed = cell(path, "task=text_csv", "task.load.text=what", "task.load.label=how")
    assert composed.config["task"]["labels"] == ["bad", "good", "so so"]
    assert composed.outputs == 3
    task = glue.load(conf("text_csv", path, labels=["bad", "good", "so so"]), 0, text="what", label="how")
    assert [len(part) for part in (task.train, task.select, task.report)] == pytest.approx([40, 8, 12], abs=1)
    assert task.note == CARVED
    assert composed.data.startswith("sha256:")
    row = task.report.texts[0]
    assert row.startswith("A text, number ")
    assert row.endswith('said "so"')


def test_a_carved_out_report_part_is_noted(tmp_path: Path) -> None:
    path = texts(tmp_path / "mine.csv")
    words = ["task=text_csv", "task.load.text=what", "task.load.label=how", f"cache_dir={tmp_path / 'cache'}"]
    assert load_data(cell(path, *words)).notes == (CARVED,)


def test_the_labels_of_a_file_are_read_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_paths, original = [], glue.read_table
    monkeypatch.setattr(glue, "read_table", lambda path, *more: (read_paths.append(path), original(path, *more))[1])
    path = texts(tmp_path / "mine.csv")
    words = ["task=text_csv", "task.load.text=what", "task.load.label=how"]
    for _ in range(3):
        assert cell(path, *words).outputs == 3
    assert len(read_paths) == 1
    path.write_text(path.read_text() + "a text,another,1\n")
    assert cell(path, *words).outputs == 4


def test_a_folder_may_hold_the_report_part(tmp_path: Path) -> None:
    texts(tmp_path / "train.csv")
    texts(tmp_path / "test.csv", 9, kind="line")
    task = glue.load(conf("text_csv", tmp_path, labels=["bad", "good", "so so"]), 0, text="what", label="how")
    assert [len(part) for part in (task.train, task.select, task.report)] == pytest.approx([52, 8, 9], abs=1)
    assert len(task.report) == 9
    assert task.note is None


def test_whole_numbers_are_labels_in_numeric_order_unless_labels_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("text,label\n" + "".join(f"text {row},{row % 11}\n" for row in range(44)))
    assert cell(path, "task=text_csv").config["task"]["labels"] == [str(star) for star in range(11)]
    predicted = cell(path, "task=text_csv", "task.labels=[]", "task.metrics=[pearson]")
    assert predicted.outputs == 1
    with pytest.raises(
        ValueError, match=r"predicts a number .* so 'accuracy' does not fit; choose from pearson, spearman"
    ):
        cell(path, "task=text_csv", "task.labels=[]")
    with pytest.raises(ValueError, match="has 11 labels, so 'pearson' does not fit; choose from accuracy, m"):
        cell(path, "task=text_csv", "task.metrics=[pearson]")


def test_many_distinct_numbers_are_refused_as_labels(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("text,label\n" + "".join(f"text {row},{row / 7}\n" for row in range(1200)))
    with pytest.raises(ValueError, match=r"^task 'text_csv' has 1,200 different labels, .* set task.labels=\[\]"):
        cell(path, "task=text_csv")


def notes(folder: Path, name: str = "text_csv") -> str:
    """Return the note that is shown with the scores."""
    if name == "mcq_jsonl":
        return str(own.questions(conf(name, folder), 0, "stem", "choices", "right").note)
    return str(glue.load(conf(name, folder, labels=["bad", "good", "so so"]), 0, text="what", label="how").note)


@pytest.mark.parametrize("stem", ["validation", "valid", "val", "val-00000-of-00001", "Validation", "dev", "test"])
@pytest.mark.parametrize("ending", ["csv", "CSV", "tsv", "csv.gz", "Csv.GZ", "parquet", "json", "JSONL", "jsonl.gz"])
def test_a_validation_file_is_never_overlooked(stem: str, ending: str, tmp_path: Path) -> None:
    for name, kind in ((f"train.{ending}", "text"), (f"{stem}.{ending}", "line")):
        path = tmp_path / name
        if "json" in ending.lower():
            write(path, [{**row, "stem": f"A {kind}: {row['stem']}"} for row in questions(60)])
        else:
            texts(path, kind=kind)
        if ending == "tsv":
            pd.read_csv(path).to_csv(path, sep="\t", index=False)
        if ending == "parquet":
            pd.read_csv(path).to_parquet(path)
        if ending.lower().endswith("gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert notes(tmp_path, "mcq_jsonl" if "json" in ending.lower() else "text_csv") == "None"


def test_unread_report_files_are_noted(tmp_path: Path) -> None:
    for name in ("train", "test"):
        texts(tmp_path / f"{name}.csv", kind=name)
    assert notes(tmp_path) == "None"
    texts(tmp_path / "validation.tsv", kind="other")
    pd.read_csv(tmp_path / "validation.tsv").to_csv(tmp_path / "validation.tsv", sep="\t", index=False)
    assert notes(tmp_path) == "report was read from validation.tsv, not from test.csv"
    texts(tmp_path / "dev.csv", kind="more")
    assert notes(tmp_path) == "report was read from dev.csv, not from test.csv and validation.tsv"


def test_joined_files_are_noted_and_pieces_of_a_file_are_not(tmp_path: Path) -> None:
    for number in range(2):
        texts(tmp_path / f"train_{number}.csv", kind=f"text of {number}")
    texts(tmp_path / "dev.csv", kind="line")
    assert notes(tmp_path) == "train was joined from train_0.csv and train_1.csv"
    for number in range(2):
        path = tmp_path / f"train_{number}.csv"
        pd.read_csv(path).to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet")
        path.unlink()
    assert notes(tmp_path) == "None"


def test_an_unread_file_is_noted_where_report_is_carved_out(tmp_path: Path) -> None:
    texts(tmp_path / "train.csv")
    texts(tmp_path / "holdout.csv")
    assert notes(tmp_path) == f"holdout.csv was not read; {CARVED}"
    assert notes(tmp_path / "train.csv") == CARVED


def test_report_rows_that_also_occur_in_train_are_noted(tmp_path: Path) -> None:
    texts(tmp_path / "train.csv", 60)
    texts(tmp_path / "dev.csv", 60)
    assert notes(tmp_path) == ("60 of 60 report rows also occur in the training file: the score measures memory")
    path = texts(tmp_path / "dev.csv", 60, kind="line")
    path.write_text(path.read_text() + '" a TEXT,  number 3, said ""so""",good,1\n')
    assert notes(tmp_path) == "1 of 61 report rows also occur in the training file"
    (tmp_path / "dev.csv").unlink()
    write(tmp_path / "train.jsonl", questions(60))
    write(tmp_path / "dev.jsonl", questions(30))
    assert notes(tmp_path, "mcq_jsonl").startswith("30 of 30 report rows also occur in the training file")


def test_rows_without_a_text_are_noted(tmp_path: Path) -> None:
    path = texts(tmp_path / "train.csv")
    path.write_text(path.read_text() + ",good,1\n  ,bad,1\n")
    assert notes(path) == f"train.csv: 2 of 62 rows have an empty text; {CARVED}"


def test_the_notes_of_the_data_come_with_the_encoded_rows(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        texts(tmp_path / f"{name}.csv")
    words = ["task=text_csv", "task.load.text=what", "task.load.label=how", f"cache_dir={tmp_path / 'cache'}"]
    (note,) = load_data(cell(tmp_path, *words)).notes
    assert note.startswith("60 of 60 report rows")


def questions(rows: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "stem": f"Question {row}?",
            "choices": [f"{row} {letter}" for letter in "abcdef"[: 2 + row % 5]],
            "right": row % 2,
        }
        for row in range(rows)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, **more: Any) -> Task:
    fields = {"question": "stem", "options": "choices", "answer": "right"} | more
    return own.questions(conf("mcq_jsonl", path), 0, **fields)


def test_questions_with_two_to_six_options_are_read(tmp_path: Path) -> None:
    task = read(write(tmp_path / "mine.jsonl", questions()))
    assert task.note == CARVED
    assert {len(options) for options in task.train.options or []} == {2, 3, 4, 5, 6}
    assert set(task.train.labels) == {0, 1}


def test_an_answer_is_a_number_a_letter_or_the_text(tmp_path: Path) -> None:
    expected = read(write(tmp_path / "numbers.jsonl", questions()))
    letters = [{**row, "right": "aB"[row["right"]]} for row in questions()]
    written = [{**row, "right": row["choices"][row["right"]]} for row in questions()]
    for rows in (letters, written):
        assert read(write(tmp_path / "other.jsonl", rows)) == expected


def test_options_may_be_separate_fields(tmp_path: Path) -> None:
    rows = [{"stem": f"Question {row}?", "one": "yes", "two": "no", "right": "no"} for row in range(40)]
    task = read(write(tmp_path / "mine.jsonl", rows), options=["one", "two"])
    assert task.report.options == [["yes", "no"]] * 8
    assert task.report.labels == [1] * 8


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "no field": (lambda row: row.pop("right"), "row 3 has no 'right'; it has stem, choices (task.load says"),
    "seven options": (
        lambda row: row.update(choices=list("abcdefg")),
        "row 3 needs a list of 2 to 6 options, and has 7",
    ),
    "one option": (lambda row: row.update(choices=["a"]), "row 3 needs a list of 2 to 6 options, and has 1"),
    "no list": (lambda row: row.update(choices="abcd"), "row 3 needs a list of 2 to 6 options, and has no list"),
    "out of range": (
        lambda row: row.update(right=4),
        "row 3 has answer 4; allowed: 0 to 3, A to D, or an option's text",
    ),
    "a letter too far": (lambda row: row.update(right="E"), 'row 3 has answer "E"; allowed: 0 to 3'),
    "two letters": (lambda row: row.update(right="AB"), 'row 3 has answer "AB"; allowed: 0 to 3'),
    "yes": (lambda row: row.update(right=[0]), "row 3 has answer [0]"),
    "a null option": (lambda row: row.update(choices=["a", None, "c"]), "row 3: option B is null; every option must"),
    "an empty option": (lambda row: row.update(choices=["a", "b", " "]), "row 3: option C is empty; every option must"),
    "a list as option": (lambda row: row.update(choices=["a", ["b"]]), 'row 3: option B is ["b"]; every option must'),
    "an object as option": (lambda row: row.update(choices=[{"text": "a"}, "b"]), 'row 3: option A is {"text": "a"}'),
    "no number as option": (lambda row: row.update(choices=[1.5, float("nan")]), "row 3: option B is NaN"),
    "true for yes and no": (
        lambda row: row.update(choices=["yes", "no"], right=True),
        "row 3 has answer true; allowed: 0 to 1, A to B, or an option's text",
    ),
    "false as a number": (lambda row: row.update(right=False), "row 3 has answer false; allowed: 0 to 3"),
    "half an option": (lambda row: row.update(right=0.5), "row 3 has answer 0.5; allowed: 0 to 3"),
    "a number as text": (lambda row: row.update(right="1"), 'row 3 has answer "1"; allowed: 0 to 3'),
    "an empty question": (lambda row: row.update(stem=" "), "row 3 has no text in 'stem'"),
    "no text as question": (lambda row: row.update(stem={"text": "why"}), "row 3 has no text in 'stem'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_question_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, message = WRONG[name]
    rows = questions()
    change(rows[2])
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        read(write(tmp_path / "mine.jsonl", rows))
    assert message in str(caught.value)
    assert "mine.jsonl" in str(caught.value)


def answered(path: Path, *rows: tuple[list[Any], Any]) -> list[int]:
    """Write a file with these rows and return the option that each answer names."""
    given = [{"stem": f"Question {row}?", "choices": each, "right": right} for row, (each, right) in enumerate(rows)]
    write(path, given)
    return list(own._split(path, "stem", "choices", "right").labels)


def test_numbers_and_booleans_are_options_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    assert answered(path, ([1, 2.5, "many"], "many"), (["no", "yes"], 1.0), ([True, False], False)) == [2, 1, 1]
    assert own._split(path, "stem", "choices", "right").options == [
        ["1", "2.5", "many"], ["no", "yes"], ["true", "false"],
    ]  # fmt: skip
    assert answered(path, (["True", "False"], True), (["false", "true"], True)) == [0, 1]


BLOOD = ["O", "A", "B", "AB"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([([2, 3, 4, 5], 3), (["x", "y"], 0)], [3, 0]),  # the other row says that answers are numbers
        ([([2, 3, 4, 5], 3), ([2, 3, 4, 5], 5)], [1, 3]),  # ... that they are texts
        ([(["2", "3", "4", "5"], 3), ([2, 3, 4, 5], 5)], [1, 3]),
        ([(BLOOD, "A"), (["x", "y"], "B")], [0, 1]),  # ... letters
        ([(BLOOD, "A"), (["x", "y"], "x")], [1, 0]),
        ([(["A", "B"], "A"), ([0, 1], 1)], [0, 1]),  # both ways name the same option
    ],
)
def test_an_ambiguous_answer_is_read_like_the_other_answers(
    rows: list[tuple[list[Any], Any]], expected: list[int], tmp_path: Path
) -> None:
    assert answered(tmp_path / "mine.jsonl", *rows) == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [([2, 3, 4, 5], 3)],
            r"row 1 has answer 3, which is the number of the option '5' and .* write the option's letter",
        ),
        (
            [(BLOOD, "A")],
            r"row 1 has answer \"A\", which is the letter of the option 'O' and .* write the option's number",
        ),
        ([(["x", "y"], "x"), (["x", "y"], "B"), (BLOOD, "A")], "row 3 has answer"),
    ],
)
def test_an_answer_that_names_two_options_is_refused(
    rows: list[tuple[list[Any], Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"^.*mine\.jsonl: {message}"):
        answered(tmp_path / "mine.jsonl", *rows)


def test_an_empty_file_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine.jsonl: no questions"):
        read(write(tmp_path / "mine.jsonl", []))
    with pytest.raises(ValueError, match=r"is not a folder"):
        cell(tmp_path / "none.csv", "task=text_csv")
    (tmp_path / "empty.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"empty.csv: no rows below the header"):
        cell(tmp_path / "empty.csv", "task=text_csv")


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no column 'label'; it has what, how, much"):
        cell(texts(tmp_path / "mine.csv"), "task=text_csv")
