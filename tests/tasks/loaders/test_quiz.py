"""The embedded questions: fixed, balanced, free of duplicates, and not solvable by the length of their options."""

import hashlib
import json
from collections import Counter
from typing import Any

import pytest
from conftest import REPOSITORY
from omegaconf import OmegaConf

from bench.config.schema import TaskConf
from bench.tasks.base import words
from bench.tasks.loaders.medmcqa import load

FILE = REPOSITORY / "bench" / "tasks" / "data" / "quiz.jsonl"
GOLDEN = "1f06d7f3bd2df85d6b5bed1ee4a341f977dd2f92fd6ddbac445f2624bf5a2508"
PARTS = {"train": 120, "select": 30, "report": 50}
OPTIONS = ("opa", "opb", "opc", "opd")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="ascii").splitlines()]


def test_the_file_has_the_hash_of_recorded_results() -> None:
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == GOLDEN


def test_parts_answers_subjects_and_kinds_are_balanced(rows: list[dict[str, Any]]) -> None:
    assert Counter(row["part"] for row in rows) == PARTS
    for part, count in PARTS.items():
        part_rows = [row for row in rows if row["part"] == part]
        assert max(Counter(row["cop"] for row in part_rows).values()) <= -(-count // 4)
        assert set(Counter(row["subject_name"] for row in part_rows).values()) == {count // 10}
        assert 0.2 < sum(row["choice_type"] == "multi" for row in part_rows) / count < 0.3


def test_no_question_and_no_option_of_a_question_is_duplicated(rows: list[dict[str, Any]]) -> None:
    assert len({words(row["question"]) for row in rows}) == 200
    assert len({row["id"] for row in rows}) == 200
    assert all(len({words(row[name]) for name in OPTIONS}) == 4 for row in rows)


def test_the_longest_option_is_no_better_than_a_guess(rows: list[dict[str, Any]]) -> None:
    longest = [max(range(4), key=lambda place: len(row[OPTIONS[place]])) == row["cop"] for row in rows]
    assert 0.15 < sum(longest) / 200 < 0.35


def test_the_task_reads_its_parts(rows: list[dict[str, Any]]) -> None:
    conf = OmegaConf.to_object(OmegaConf.merge(TaskConf, OmegaConf.load(REPOSITORY / "conf" / "task" / "quiz.yaml")))
    assert isinstance(conf, TaskConf)
    task = load(conf, 0, first=0, part="part")
    for name, count in PARTS.items():
        part = getattr(task, name)
        part_rows = [row for row in rows if row["part"] == name]
        assert len(part) == count
        assert part.texts == [row["question"] for row in part_rows]
        assert part.labels == [row["cop"] for row in part_rows]
    assert task.note is None
