"""What a task is once its files are read, and how parts are cut out of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """One part of the data: texts with their labels, numbered from 0."""

    texts: list[str]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> "Split":
        return Split([self.texts[row] for row in rows], [self.labels[row] for row in rows])


@dataclass(frozen=True)
class Task:
    """Three parts: train; select chooses learning rate and checkpoint; report is what the tables show."""

    train: Split
    select: Split
    report: Split


def carve(split: Split, rows: int, seed: int) -> tuple[Split, Split]:
    """Cut about `rows` rows out of a split: seeded, stratified by label, equal texts never on both sides.

    Gives (rest, part). ValueError: there are not enough rows to leave half of them.
    """
    if rows * 2 > len(split):
        raise ValueError(
            f"task.select_rows={rows} is more than half of the {len(split)} training rows; "
            f"choose at most {len(split) // 2}"
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(split.texts):
        groups[" ".join(text.lower().split())].append(row)
    by_label: dict[int, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        by_label[split.labels[group[0]]].append(group)
    chosen: set[int] = set()
    generator = np.random.default_rng(seed)
    for label in sorted(by_label):
        candidates = by_label[label]
        share = round(rows * sum(map(len, candidates)) / len(split))
        taken = 0
        for position in generator.permutation(len(candidates)):
            if taken >= share:
                break
            chosen.update(candidates[position])
            taken += len(candidates[position])
    rest = [row for row in range(len(split)) if row not in chosen]
    return split.take(rest), split.take(sorted(chosen))


def subset(split: Split, rows: int | None, seed: int) -> Split:
    """A seeded part of a split, in its old order; all of it where `rows` is None or not fewer."""
    if rows is None or rows >= len(split):
        return split
    return split.take(sorted(np.random.default_rng(seed).permutation(len(split))[:rows].tolist()))
