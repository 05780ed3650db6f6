"""Load a user's own multiple-choice questions from JSON lines, given only their path and field names."""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from bench.config.schema import TaskConf
from bench.files.jsonl import read_lines
from bench.tasks.base import Split, Task, with_select
from bench.tasks.loaders.locate import file_notes, files_of
from bench.tasks.loaders.options import option_numbers, option_text

LARGEST = 6  # maximum number of options of a question


def questions(
    task: TaskConf,
    data_seed: int,
    question: str = "question",
    options: str | Sequence[str] = "options",
    answer: str = "answer",
) -> Task:
    """Read JSON lines that hold a question, two to six options and the answer.

    Args:
        task: names the files or the hub repository.
        data_seed: determines which rows are carved out.
        question: the field of the question.
        options: the field that holds a list of options, or the fields that hold one option each.
        answer: the field of the answer: the correct option's number from 0, its letter or its text (options.py).

    Raises:
        ValueError: a row does not have these fields, or their values are invalid.
    """
    files = files_of(task)
    parts = {
        name: _joined([_split(path, question, options, answer) for path in paths]) for name, paths in files.items()
    }
    return with_select(parts, task.select_rows, data_seed, notes=file_notes(task, files))


def _joined(splits: Sequence[Split]) -> Split:
    """Join the splits of a part's files."""
    options = [row for split in splits for row in split.options or []]
    labels = [int(label) for split in splits for label in split.labels]
    return Split([text for split in splits for text in split.texts], labels, options=options)


def _split(path: Path, question: str, options: str | Sequence[str], answer: str) -> Split:
    fields = [question, *([options] if isinstance(options, str) else options), answer]
    texts, answers, all_options = [], [], []
    for number, row in enumerate(read_lines(path), 1):
        where = f"{path}: row {number}"
        if missing := [name for name in fields if row.get(name) is None]:
            raise ValueError(
                f"{where} has no {missing[0]!r}; it has {', '.join(row)} (task.load says which fields are read)"
            )
        values = row[options] if isinstance(options, str) else [row[name] for name in options]
        if not isinstance(values, list) or not 2 <= len(values) <= LARGEST:
            count = len(values) if isinstance(values, list) else "no list"
            raise ValueError(f"{where} needs a list of 2 to {LARGEST} options, and has {count}")
        if not isinstance(row[question], str) or not row[question].strip():
            raise ValueError(f"{where} has no text in {question!r}; write the question there, or remove the row")
        texts.append(row[question])
        names = ascii_uppercase if isinstance(options, str) else options
        all_options.append([_option(value, name, where) for value, name in zip(values, names, strict=False)])
        answers.append(row[answer])
    return Split(texts, option_numbers(answers, all_options, str(path)), options=all_options)


def _option(value: Any, name: str, where: str) -> str:
    """Return an option as text. name: its letter or its field, for the error message."""
    try:
        return option_text(value)
    except ValueError as error:
        raise ValueError(f"{where}: option {name} {error}") from error
