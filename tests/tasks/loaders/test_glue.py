"""GLUE's tasks from local files: what is read, how labels are parsed, and what is refused."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.config.schema import TaskConf
from bench.tasks.base import Task
from bench.tasks.loaders.glue import load

CONF = REPOSITORY / "conf" / "task" / "sst2.yaml"
Row = tuple[str, object]
TRAIN = [(f"phrase number {n}", n % 2) for n in range(40)]
REPORT = [(f"sentence number {n}", n % 2) for n in range(10)]


def conf(folder: Path, select_rows: int = 8) -> TaskConf:
    merged = OmegaConf.merge(TaskConf, OmegaConf.load(CONF), {"path": str(folder), "select_rows": select_rows})
    task = OmegaConf.to_object(merged)
    assert isinstance(task, TaskConf)
    return task


def write(folder: Path, kind: str, train: Sequence[Row] = TRAIN, report: Sequence[Row] = REPORT) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", report)):
        table = pd.DataFrame(rows, columns=["sentence", "label"])
        if kind == "parquet":
            table.to_parquet(folder / f"{name}-00000-of-00001.parquet")
        else:
            lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def contents(task: Task) -> list[tuple[list[str], list[int]]]:
    return [(part.texts, part.labels) for part in (task.train, task.select, task.report)]


def complaint(folder: Path) -> str:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        load(conf(folder), data_seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tsv_and_parquet_are_read_alike(tmp_path: Path) -> None:
    tsv, parquet = (load(conf(write(tmp_path / kind, kind)), data_seed=0) for kind in ("tsv", "parquet"))
    assert contents(tsv) == contents(parquet)


def test_labels_may_be_numbers_or_names_in_both_kinds_of_file(tmp_path: Path) -> None:
    names = ["negative", "positive"]
    expected = contents(load(conf(write(tmp_path / "numbers", "tsv")), data_seed=0))
    for kind in ("tsv", "parquet"):
        spelled = [[(text, names[label]) for text, label in rows] for rows in (TRAIN, REPORT)]
        assert contents(load(conf(write(tmp_path / kind, kind, *spelled)), data_seed=0)) == expected
        mixed = [(text, names[label] if n % 3 else str(label)) for n, (text, label) in enumerate(TRAIN)]
        assert contents(load(conf(write(tmp_path / f"{kind} mixed", kind, mixed)), data_seed=0)) == expected


def test_select_is_carved_out_of_train_and_report_is_left_alone(tmp_path: Path) -> None:
    task = load(conf(write(tmp_path, "tsv")), data_seed=0)
    assert len(task.select) == 8
    train, select, report = ([*zip(texts, labels, strict=True)] for texts, labels in contents(task))
    assert Counter(train + select) == Counter(TRAIN)
    assert report == REPORT


def test_the_data_seed_alone_decides_what_is_carved(tmp_path: Path) -> None:
    write(tmp_path, "tsv")
    first, again, other = (contents(load(conf(tmp_path), data_seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first[1] != other[1]
    assert first[2] == other[2]


@pytest.mark.parametrize("text", ['"a" great film', 'an "open quote', "it 's", "null", "NA", "007", "caf\u00e9 & co"])
@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_a_text_is_kept_verbatim(kind: str, text: str, tmp_path: Path) -> None:
    report = [(text, 1), ("other", 0)]
    assert load(conf(write(tmp_path, kind, report=report)), data_seed=0).report.texts == [text, "other"]


def test_other_columns_are_ignored(tmp_path: Path) -> None:
    expected = contents(load(conf(write(tmp_path / "two", "tsv")), data_seed=0))
    write(tmp_path / "three", "tsv")
    for name, rows in (("train", TRAIN), ("dev", REPORT)):
        lines = ["idx\tlabel\tsentence", *(f"{n}\t{label}\t{text}" for n, (text, label) in enumerate(rows))]
        (tmp_path / "three" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    assert contents(load(conf(tmp_path / "three"), data_seed=0)) == expected


def test_the_text_column_may_have_another_name(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        lines = ["question\tlabel", *(f"{text}\t{label}" for text, label in TRAIN)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    assert load(conf(tmp_path), data_seed=0, text="question").report.texts == [text for text, _ in TRAIN]


@pytest.mark.parametrize("label", [2, -1, "good"])
@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_a_label_out_of_range_is_refused_with_file_and_row(kind: str, label: int | str, tmp_path: Path) -> None:
    rows: list[Row] = [(text, str(number) if isinstance(label, str) else number) for text, number in REPORT]
    rows[6] = ("the wrong one", label)
    message = complaint(write(tmp_path, kind, report=rows))
    assert message.startswith(str(tmp_path / "dev"))
    assert "row 7" in message
    assert repr(str(label)) in message
    assert "task.labels lists negative, positive (or their numbers 0 to 1)" in message


def test_a_row_without_a_label_is_refused_with_file_and_row(tmp_path: Path) -> None:
    write(tmp_path, "tsv")
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\nfine\t1\nno label here\ndull\t0\n")
    assert "dev.tsv: row 2 has no label" in complaint(tmp_path)


@pytest.mark.parametrize("part", ["train", "dev"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"text\tlabel\na\t1\n", "no column 'sentence'; it has text, label"),
        (b"sentence\tgrade\na\t1\n", "no column 'label'; it has sentence, grade"),
        (b"", "cannot be read"),
        (b"sentence\tlabel\n", "no rows below the header"),
        (b"sentence\tlabel\nfine\t1\ncaf\xe9\t1\n", "line 3 is not UTF-8"),
        (b"sentence\tlabel\nfine\t1\na\tb\t1\n", "line 3"),
    ],
)
def test_a_broken_file_is_named_in_one_line(part: str, content: bytes, expected: str, tmp_path: Path) -> None:
    write(tmp_path, "tsv")
    (tmp_path / f"{part}.tsv").write_bytes(content)
    message = complaint(tmp_path)
    assert message.startswith(f"{tmp_path / f'{part}.tsv'}: ")
    assert expected in message


def test_a_missing_file_is_refused_before_any_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes(b"\xff")
    assert "no file for 'report'" in complaint(tmp_path)


def test_select_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "tsv")
    with pytest.raises(ValueError, match=r"task\.select_rows=21 is more than half of the 40 training rows"):
        load(conf(tmp_path, select_rows=21), data_seed=0)
