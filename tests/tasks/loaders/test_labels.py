"""Class labels: which class a spelling means, how the parts fit together, and what is refused with file and row."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.config import compose as grid
from bench.config.schema import TaskConf
from bench.tasks.base import Split, Task
from bench.tasks.loaders import glue

CONF = REPOSITORY / "conf" / "task"
ROWS = 60
Kind = Callable[[Sequence[Any]], pd.Series]


def conf(path: Path, labels: list[str] | None = None, name: str = "text_csv") -> TaskConf:
    given = {"path": str(path), "select_rows": 10, **({} if labels is None else {"labels": labels})}
    task = OmegaConf.to_object(OmegaConf.merge(TaskConf, OmegaConf.load(CONF / f"{name}.yaml"), given))
    assert isinstance(task, TaskConf)
    return task


def write(path: Path, labels: Sequence[Any], rows: int = ROWS) -> Path:
    """Write a CSV file that cycles through the labels."""
    path.parent.mkdir(exist_ok=True)
    lines = [f"{path.stem} text {row},{labels[row % len(labels)]}" for row in range(rows)]
    path.write_text("\n".join(["text,label", *lines, ""]), encoding="utf-8")
    return path


def cell(path: Path, *words: str) -> Any:
    given = ["task=text_csv", f"task.path={path}", "task.select_rows=10", "track=off"]
    (composed,) = grid.cells([*given, *words], multirun=False)
    return composed


def labels_in(path: Path) -> list[str]:
    names: list[str] = cell(path).config["task"]["labels"]
    return names


def load(path: Path, names: list[str]) -> Task:
    return glue.load(conf(path, names), 0, text="text")


def classes(task: Task, part: str = "train") -> dict[int, set[int]]:
    """Return the row numbers of each class. `write` gives row n the label at n modulo their count."""
    split: Split = getattr(task, part)
    held: dict[int, set[int]] = {}
    for text, label in zip(split.texts, split.labels, strict=True):
        held.setdefault(int(label), set()).add(int(text.split()[-1]))
    return held


def refusal(path: Path, *words: str) -> str:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        cell(path, *words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("labels", [[1, 2], [1, 2, 3, 4, 5], [1, 3, 5], [2, 0, 1], [-1, 0, 1], [10, 9]])
def test_numeric_labels_stay_distinct_wherever_they_start(labels: list[int], tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", labels)
    names = labels_in(path)
    assert names == [str(label) for label in sorted(labels)]
    held = classes(load(path, names))
    assert sorted(held) == list(range(len(labels)))
    for number, rows in held.items():
        assert {str(labels[row % len(labels)]) for row in rows} == {names[number]}


@pytest.mark.parametrize("names", [["1", "0"], ["0", "1"], ["3", "1", "2"], ["2", "3"], ["1.0", "2.0"]])
def test_a_name_always_wins_over_a_number(names: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", names)
    for number, rows in classes(load(path, names)).items():
        assert {names[row % len(names)] for row in rows} == {names[number]}


def test_numbers_stand_for_names_only_where_no_name_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", [0, 1])
    assert set(load(path, ["bad", "good"]).train.labels) == {0, 1}
    with pytest.raises(ValueError, match=r"row 1 has label '0'; task.labels lists 1, 2$"):
        load(path, ["1", "2"])
    with pytest.raises(ValueError, match=r"row 1 has label '0'; task.labels lists 1, other$"):
        load(path, ["1", "other"])


def test_a_listed_label_without_a_row_in_train_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ["sun", "rain"])
    assert "no row of train has label hail, which task.labels lists" in (load(path, ["sun", "hail", "rain"]).note or "")
    assert "hail" not in (load(path, ["sun", "rain"]).note or "")


def test_whole_numbers_are_the_same_class_with_and_without_a_decimal_point(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ["0", "1.00"])
    write(tmp_path / "dev.csv", ["0.0", "1.0"])
    names = labels_in(tmp_path)
    assert names == ["0", "1"]
    task = load(tmp_path, names)
    assert all(row % 2 == number for number, rows in classes(task, "report").items() for row in rows)
    assert set(load(tmp_path, ["bad", "good"]).report.labels) == {0, 1}


KINDS: dict[str, Kind] = {
    "text": lambda labels: pd.Series([str(label) for label in labels]),
    "int": lambda labels: pd.Series(labels, dtype="int64"),
    "float": lambda labels: pd.Series(labels, dtype="float32"),
    "nullable": lambda labels: pd.Series(labels, dtype="Int64"),
    "category": lambda labels: pd.Series(labels).astype("category"),
}


@pytest.mark.parametrize("train", KINDS)
@pytest.mark.parametrize("dev", KINDS)
def test_every_kind_of_parquet_column_gives_the_same_classes(train: str, dev: str, tmp_path: Path) -> None:
    labels = [row % 2 + 1 for row in range(ROWS)]
    for name, kind in (("train", train), ("dev", dev)):
        table = pd.DataFrame({"text": [f"{name} {row}" for row in range(ROWS)], "label": KINDS[kind](labels)})
        table.to_parquet(tmp_path / f"{name}.parquet")
    names = labels_in(tmp_path)
    assert names == ["1", "2"]
    assert load(tmp_path, names).report.labels == [row % 2 for row in range(ROWS)]


def test_booleans_are_labels(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"text": [f"text {row}" for row in range(ROWS)], "label": [row % 2 == 0 for row in range(ROWS)]}
    )
    table.to_parquet(tmp_path / "train.parquet")
    assert labels_in(tmp_path / "train.parquet") == ["False", "True"]


def test_spaces_around_a_label_are_ignored(tmp_path: Path) -> None:
    assert labels_in(write(tmp_path / "mine.csv", ["bad", " bad", "good "])) == ["bad", "good"]


def test_equal_numbers_in_several_spellings_have_a_fixed_order(tmp_path: Path) -> None:
    assert labels_in(write(tmp_path / "mine.csv", ["1", "01", "001", "2"])) == ["001", "01", "1", "2"]


@pytest.mark.parametrize("labels", [[row / 5 for row in range(26)], [0.5, 1.0, 1.5], ["0", "1", "1e-1"]])
def test_decimal_labels_are_refused_before_training(labels: list[Any], tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "mine.csv", labels))
    assert f"has {len(labels)} different labels, such as " in message
    assert "set task.labels=[] task.metrics=[pearson]" in message
    assert "list them in task.labels" in message


def test_listed_decimal_labels_are_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ["0.5", "1.0", "1.5"])
    names = cell(path, "task.labels=['0.5','1.0','1.5']").config["task"]["labels"]
    assert set(load(path, names).train.labels) == {0, 1, 2}


def test_a_number_in_two_spellings_among_words_is_refused(tmp_path: Path) -> None:
    assert "labels '0' and '0.0' are the same number" in refusal(write(tmp_path / "mine.csv", ["0", "0.0", "none"]))


def test_decimals_in_a_single_part_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ["0", "1"])
    write(tmp_path / "dev.csv", ["0", "0.5"])
    assert "such as 0.5" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["text_csv", "listed"])
def test_a_report_part_without_labels_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [0, 1])
    write(tmp_path / "test.csv", [-1])
    message = refusal(tmp_path) if name == "text_csv" else ""
    if name == "listed":
        with pytest.raises(ValueError, match=r"^.+$") as caught:
            load(tmp_path, ["bad", "good"])
        message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'test.csv'}: row 1 has label '-1'")
    assert "(-1 marks GLUE's unlabelled test file)" in message


def test_a_label_absent_from_train_is_refused_with_its_first_row(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ["neg", "pos"])
    path = write(tmp_path / "dev.csv", ["neg", "neg", "positive"])
    expected = f"{path}: row 3 has label 'positive', which does not occur in train; train has neg, pos"
    assert refusal(tmp_path) == expected
    with pytest.raises(ValueError, match="row 3 has label 'positive', which does not occur in train"):
        load(tmp_path, ["neg", "pos", "positive"])


def test_report_labels_disjoint_from_train_are_reported_as_such(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ["neg", "pos"])
    write(tmp_path / "dev.csv", ["bad", "good"])
    assert "row 1 has label 'bad', which does not occur in train; none of the report labels does" in refusal(tmp_path)


@pytest.mark.parametrize("row", ["a text,", "a text", "a text,  ", '"a text",""'])
def test_a_row_without_a_label_is_refused(row: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ["neg", "pos"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], row, *lines[9:], ""]))
    for words in ((), ("task.labels=[neg,pos]",)):
        if not words:
            message = refusal(path)
        else:
            with pytest.raises(ValueError, match=r"^.+$") as caught:
                load(path, ["neg", "pos"])
            message = str(caught.value)
        assert message == f"{path}: row 9 has no label in column 'label'; give it one, or remove the row"


def test_a_missing_number_is_reported_as_a_missing_label(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ["0.5", ""])
    with pytest.raises(ValueError, match=r"row 2 has no label in column 'label'"):
        glue.load(conf(path, []), 0, text="text")


@pytest.mark.parametrize("part", ["train", "dev"])
def test_a_constant_number_is_refused(part: str, tmp_path: Path) -> None:
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.csv", ["0.5"] if name == part else ["0.5", "1"])
    with pytest.raises(ValueError, match=rf"{part}.csv: every row has the number 0.5; a correlation needs at least"):
        glue.load(conf(tmp_path, []), 0, text="text")


def test_a_single_label_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", ["good"])
    assert refusal(path) == f"{path}: every row has label 'good'; a task needs two labels or more"
    with pytest.raises(ValueError, match="every row has label 'good'"):
        load(path, ["bad", "good"])
    assert "task.labels=[good] is only one label" in refusal(path, "task.labels=[good]")
    assert "task.labels=[bad, good, bad] has 'bad' twice" in refusal(path, "task.labels=[bad,good,bad]")


def test_f1_requires_two_labels_listed_or_read(tmp_path: Path) -> None:
    three = write(tmp_path / "three.csv", ["bad", "good", "so so"])
    for words in ((), ("task.labels=[bad,good,so so]",)):
        message = refusal(three, "task.metrics=[accuracy,f1]", *words)
        assert "has 3 labels, so 'f1' (it is for two labels) does not fit" in message
        assert message.endswith("choose from accuracy, macro_f1, matthews_correlation")
    two = write(tmp_path / "two.csv", ["bad", "good"])
    assert cell(two, "task.metrics=[accuracy,f1]").config["task"]["metrics"] == ["accuracy", "f1"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["1", "0.25"], "set task.labels=[] task.metrics=[pearson]"), (["good"], "every row has label 'good'")],
)
def test_unusable_labels_exit_with_2_and_one_line(
    labels: list[str], expected: str, inline: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "mine.csv", labels)
    given = [word for word in tiny if not word.startswith("task")]
    done = inline(*given, "method=lora", "task=text_csv", f"task.path={path}", "task.select_rows=10")
    assert done.returncode == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
