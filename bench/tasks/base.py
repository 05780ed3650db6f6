"""A task after its files have been read, and how to split its data into parts."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from bench.tasks.loaders.stratify import choose

T = TypeVar("T")
PARTS = ("train", "select", "report")
CARVED = "the report part was carved out of the training rows"
SHARE = 5  # without a report file, one row in five goes to the report part


@dataclass(frozen=True)
class Split:
    """One part of the data: texts with their labels.

    Attributes:
        texts: the text of each row.
        labels: the class of each row, counted from 0, or a number to predict.
        second: the second text of each row, if the task is about pairs of texts.
        options: the possible answers to each question.
        about: properties of the rows, such as the subject of a question. Each value is also scored separately.
    """

    texts: list[str]
    labels: list[int] | list[float]
    second: list[str] | None = None
    options: list[list[str]] | None = None
    about: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> "Split":
        """Return the given rows, in the given order."""

        def pick(column: list[T]) -> list[T]:
            return [column[row] for row in rows]

        return Split(
            pick(self.texts),
            pick(cast("list[Any]", self.labels)),
            None if self.second is None else pick(self.second),
            None if self.options is None else pick(self.options),
            {name: pick(column) for name, column in self.about.items()},
        )


@dataclass(frozen=True)
class Task:
    """The data of a task, in three or more parts.

    Attributes:
        train: the rows to train on.
        select: the rows on which the learning rate and the checkpoint are chosen.
        report: the rows whose scores the tables show.
        further: more parts by name, scored in addition to report (such as MNLI's mismatched part).
        note: what a reader of the scores must know about the data.
    """

    train: Split
    select: Split
    report: Split
    further: dict[str, Split] = field(default_factory=dict)
    note: str | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Split], note: str | None = None) -> "Task":
        """Build a task from all of its parts by name."""
        return cls(parts["train"], parts["select"], parts["report"], others(parts), note)

    @property
    def parts(self) -> dict[str, Split]:
        """Return all parts by name."""
        return {"train": self.train, "select": self.select, "report": self.report, **self.further}

    def map(self, change: Callable[[Split], Split]) -> "Task":
        """Return the task with `change` applied to every part."""
        return Task.of({name: change(part) for name, part in self.parts.items()}, self.note)


def others(parts: Mapping[str, T]) -> dict[str, T]:
    """Return the parts other than train, select and report."""
    return {name: part for name, part in parts.items() if name not in PARTS}


def as_it_is(text: str) -> str:
    """Return the text in lower case, with runs of whitespace collapsed to single spaces."""
    return " ".join(text.lower().split())


def words(text: str) -> str:
    """Return only the words of a text, case-folded.

    Some questions occur twice in the data, with and without a colon.
    """
    return " ".join(re.findall(r"\w+", text.casefold()))


def carve(split: Split, rows: int, seed: int, alike: Callable[[str], str] = as_it_is) -> tuple[Split, Split]:
    """Cut `rows` rows out of a split.

    The choice is seeded and stratified by label. Numbers to predict are stratified by rank. Equal texts (or pairs)
    always end up on the same side. The size of the part is therefore as close to `rows` as equal texts allow. The only
    row of a label is never cut out.

    Args:
        split: the rows to cut from.
        rows: number of rows that the part should have.
        seed: determines which rows are cut out.
        alike: maps texts that count as equal to the same string.

    Returns:
        (rest, part), both in the original order.

    Raises:
        ValueError: less than half of the rows would remain, or the part would be empty.
    """
    return _carve(split, rows, seed, _keys(split, alike))


def _keys(split: Split, alike: Callable[[str], str]) -> list[str]:
    """Return a key for each row's text (or pair of texts), equal for texts that count as equal."""
    if split.second is None:
        return list(map(alike, split.texts))
    return [alike(f"{text}\t{second}") for text, second in zip(split.texts, split.second, strict=True)]


def _carve(split: Split, rows: int, seed: int, keys: Sequence[str]) -> tuple[Split, Split]:
    if rows * 2 > len(split):
        raise ValueError(
            f"task.select_rows={rows} is more than half of the {len(split)} training rows; "
            f"choose at most {len(split) // 2}"
        )
    if not (chosen := choose(split.labels, keys, rows, seed)):
        raise ValueError(
            f"cannot cut {rows} rows out of {len(split)} rows: equal texts stay together and every label keeps "
            "at least one row; add rows, or give the part its own file"
        )
    rest = [row for row in range(len(split)) if row not in chosen]
    return split.take(rest), split.take(sorted(chosen))


def with_select(
    parts: dict[str, Split],
    select_rows: int,
    seed: int,
    alike: Callable[[str], str] = words,
    notes: Sequence[str] = (),
) -> Task:
    """Carve select out of train. If there is no report part, carve that out first.

    Args:
        parts: train, optionally report, and any further parts.
        select_rows: number of rows that select should have.
        seed: determines which rows are cut out.
        alike: maps texts that count as equal to the same string.
        notes: notes for a reader of the scores, to which those about the carving are added.

    Returns:
        The task, with all notes joined into one.

    Raises:
        ValueError: train has too few rows for the parts to be carved out of it.
    """
    train, keys, all_notes = parts["train"], _keys(parts["train"], alike), list(notes)
    if "report" in parts:
        all_notes += _shared({name: _keys(part, alike) for name, part in parts.items() if name != "train"}, set(keys))
    else:
        train, report = _carve(train, len(train) // SHARE, seed, keys)
        parts, keys, all_notes = {**parts, "report": report}, _keys(train, alike), [*all_notes, CARVED]
    train, select = _carve(train, select_rows, seed, keys)
    return Task.of({**parts, "train": train, "select": select}, "; ".join(all_notes) or None)


def _shared(parts: Mapping[str, Sequence[str]], train: Collection[str]) -> list[str]:
    """Return a note for each part, other than train, that has rows whose text also occurs in train.

    Labels are not compared.
    """
    notes = []
    for name, keys in parts.items():
        if count := sum(key in train for key in keys):
            warning = ": the score measures memory" if count == len(keys) else ""
            notes.append(f"{count:,} of {len(keys):,} {name} rows also occur in the training file{warning}")
    return notes


def subset(split: Split, rows: int | None, seed: int) -> Split:
    """Return a seeded random subset of a split, in the original order.

    Args:
        split: the rows to draw from.
        rows: size of the subset. The whole split is returned if this is None or not less than its size.
        seed: determines which rows are drawn.
    """
    if rows is None or rows >= len(split):
        return split
    return split.take(sorted(np.random.default_rng(seed).permutation(len(split))[:rows].tolist()))
