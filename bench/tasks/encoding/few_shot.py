"""Solved examples that are shown beside a row: drawn from the training part, as many of one label as of another."""

from collections import defaultdict

import numpy as np

from bench.tasks.base import Split


class Demonstrations:
    """Draws for every row anew, from its number and the seed alone. shots: examples beside each row, 0 for none."""

    def __init__(self, train: Split, shots: int, seed: int) -> None:
        self.train, self.shots, self.seed = train, shots, seed
        self.by_label: dict[int, list[int]] = defaultdict(list)
        for row, label in enumerate(train.labels):
            self.by_label[int(label)].append(row)

    def beside(self, row: int, *, own: bool) -> list[int]:
        """Rows of the training part that are shown beside a row, in the order in which they are shown.

        own: whether the row is one of the training part: it is not shown its own answer. No example comes twice while
        its label has others.
        """
        if not self.shots:
            return []
        generator = np.random.default_rng([self.seed, int(own), row])
        labels = generator.permutation(sorted(self.by_label))
        waiting: dict[int, list[int]] = {}
        found: list[int] = []
        for number in range(self.shots):
            label = int(labels[number % len(labels)])
            if not waiting.get(label):
                rows = self.by_label[label]
                drawn = generator.choice(len(rows), min(self.shots + 1, len(rows)), replace=False)
                waiting[label] = [rows[one] for one in drawn if not (own and rows[one] == row)]
            if waiting[label]:
                found.append(waiting[label].pop())
        return found
