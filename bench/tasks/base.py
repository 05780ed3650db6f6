"""What a task is once its files are read, and how parts are cut out of it."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from bench.tasks.loaders.stratify import choose

T = TypeVar("T")
PARTS = ("train", "select", "report")
CARVED = "the report part was carved out of the training rows"
SHARE = 5  # every fifth row reports, where no file says which rows do


@dataclass(frozen=True)
class Split:
    """One part of the data: texts with their labels, numbered from 0, or with numbers that are to be predicted.

    second: the other text of each row, where the task is about pairs. options: what each question can be answered with.
    about: properties of the rows by which they are scored apart too, such as a question's subject.
    """

    texts: list[str]
    labels: list[int] | list[float]
    second: list[str] | None = None
    options: list[list[str]] | None = None
    about: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> "Split":
        def some(column: list[T]) -> list[T]:
            return [column[row] for row in rows]

        return Split(
            some(self.texts),
            some(cast("list[Any]", self.labels)),
            None if self.second is None else some(self.second),
            None if self.options is None else some(self.options),
            {name: some(column) for name, column in self.about.items()},
        )


@dataclass(frozen=True)
class Task:
    """Three parts: train; select chooses learning rate and checkpoint; report is what the tables show.

    further: more parts that are scored beside report, by name (MNLI's mismatched one). note: what a reader of the
    scores must know of the data.
    """

    train: Split
    select: Split
    report: Split
    further: dict[str, Split] = field(default_factory=dict)
    note: str | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Split], note: str | None = None) -> "Task":
        """From all parts by name."""
        return cls(parts["train"], parts["select"], parts["report"], others(parts), note)

    @property
    def parts(self) -> dict[str, Split]:
        """All parts by name."""
        return {"train": self.train, "select": self.select, "report": self.report, **self.further}

    def map(self, change: Callable[[Split], Split]) -> "Task":
        """Every part changed in the same way."""
        return Task.of({name: change(part) for name, part in self.parts.items()}, self.note)


def others(parts: Mapping[str, T]) -> dict[str, T]:
    """Those besides train, select and report."""
    return {name: part for name, part in parts.items() if name not in PARTS}


def as_it_is(text: str) -> str:
    """A text but for case and spaces."""
    return " ".join(text.lower().split())


def words(text: str) -> str:
    """A text's words alone: some questions stand twice in the data, with and without a colon."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def carve(split: Split, rows: int, seed: int, alike: Callable[[str], str] = as_it_is) -> tuple[Split, Split]:
    """Cut `rows` rows out of a split: seeded, stratified by label, equal texts (or pairs) never on both sides.

    The part has as many rows as asked for, or as near to it as equal texts allow. A label's only row is never cut out;
    numbers that are to be predicted are stratified by rank.

    Args:
        split: the rows to cut from.
        rows: how many the part should have.
        seed: decides which rows are cut out.
        alike: gives the same for texts that count as equal.

    Returns:
        (rest, part), both in the old order.

    Raises:
        ValueError: there are not enough rows to leave half of them, or the part would be empty.
    """
    return _carve(split, rows, seed, _keys(split, alike))


def _keys(split: Split, alike: Callable[[str], str]) -> list[str]:
    """What each row's text (or pair of texts) is, up to what does not matter."""
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
            f"no part of {rows} rows can be cut out of {len(split)} rows: equal texts stay together and every label "
            "keeps a row; add rows, or give the part a file of its own"
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
    """Carve select out of train, and report before that where no file holds it.

    Args:
        parts: train, and report or not, and further ones.
        select_rows: how many rows select should have.
        seed: decides which rows are cut out.
        alike: gives the same for texts that count as equal.
        notes: what a reader of the scores must know already.
    """
    train, keys, told = parts["train"], _keys(parts["train"], alike), list(notes)
    if "report" in parts:
        told += _shared({name: _keys(part, alike) for name, part in parts.items() if name != "train"}, set(keys))
    else:
        train, report = _carve(train, len(train) // SHARE, seed, keys)
        parts, keys, told = {**parts, "report": report}, _keys(train, alike), [*told, CARVED]
    train, select = _carve(train, select_rows, seed, keys)
    return Task.of({**parts, "train": train, "select": select}, "; ".join(told) or None)


def _shared(parts: Mapping[str, Sequence[str]], train: Collection[str]) -> list[str]:
    """Say how many rows of the other parts have a text that occurs in train, whatever their labels."""
    found = []
    for name, keys in parts.items():
        if count := sum(key in train for key in keys):
            memory = ": the score measures memory" if count == len(keys) else ""
            found.append(f"{count:,} of {len(keys):,} {name} rows also occur in the training file{memory}")
    return found


def subset(split: Split, rows: int | None, seed: int) -> Split:
    """A seeded part of a split, in its old order; all of it where `rows` is None or not fewer."""
    if rows is None or rows >= len(split):
        return split
    return split.take(sorted(np.random.default_rng(seed).permutation(len(split))[:rows].tolist()))
