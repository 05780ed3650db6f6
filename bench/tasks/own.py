"""A user's own files: texts with labels, or multiple-choice questions, known by path and column names alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from bench.schema import TaskConf
from bench.tasks.files import file_notes, files_of
from bench.tasks.lines import read_lines
from bench.tasks.task import Split, Task, with_select

LARGEST = 6  # options of a question


def questions(
    task: TaskConf,
    data_seed: int,
    question: str = "question",
    options: str | Sequence[str] = "options",
    answer: str = "answer",
) -> Task:
    """Read JSON lines: a question, two to six options, and which of them is right.

    options: the field that holds a list of them, or the fields that hold one each. answer: the field that holds the
    right option's number from 0, its letter, or its text. ValueError: a row that is not so.
    """
    files = files_of(task)
    parts = {
        name: _together([_split(path, question, options, answer) for path in paths]) for name, paths in files.items()
    }
    return with_select(parts, task.select_rows, data_seed, notes=file_notes(task, files))


def _together(splits: Sequence[Split]) -> Split:
    options = [row for split in splits for row in split.options or []]
    labels = [int(label) for split in splits for label in split.labels]
    return Split([text for split in splits for text in split.texts], labels, options=options)


def _split(path: Path, question: str, options: str | Sequence[str], answer: str) -> Split:
    fields = [question, *([options] if isinstance(options, str) else options), answer]
    texts, labels, all_options = [], [], []
    for number, row in enumerate(read_lines(path), 1):
        where = f"{path}: row {number}"
        if missing := [name for name in fields if row.get(name) is None]:
            raise ValueError(
                f"{where} has no {missing[0]!r}; it has {', '.join(row)} (task.load says which fields are read)"
            )
        each = row[options] if isinstance(options, str) else [row[name] for name in options]
        if not isinstance(each, list) or not 2 <= len(each) <= LARGEST:
            count = len(each) if isinstance(each, list) else "no list of"
            raise ValueError(f"{where} has {count} options; a question needs from 2 to {LARGEST}")
        texts.append(str(row[question]))
        all_options.append([str(option) for option in each])
        labels.append(_number(row[answer], all_options[-1], where))
    return Split(texts, labels, options=all_options)


def _number(answer: Any, options: Sequence[str], where: str) -> int:
    """Which option is right, said by number, letter or text."""
    letters = ascii_uppercase[: len(options)]
    if isinstance(answer, int) and 0 <= answer < len(options):
        return answer
    if isinstance(answer, str) and options.count(answer) == 1:
        return options.index(answer)
    if isinstance(answer, str) and answer.strip().upper() in list(letters):
        return letters.index(answer.strip().upper())
    allowed = f"0 to {len(options) - 1}, {letters[0]} to {letters[-1]}, or an option's text"
    raise ValueError(f"{where} has answer {json.dumps(answer)}; allowed: {allowed}")
