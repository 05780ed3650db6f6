"""Draw solved examples from the training part, balanced over its labels, to show with each row."""

from collections import defaultdict

import numpy as np

from bench.tasks.base import Split


class Demonstrations:
    """Draws solved examples for each row. The draw depends only on the seed, the row's number and its part.

    Attributes:
        train: the training part, from which examples are drawn.
        shots: number of examples for each row; 0 for none.
        seed: seed of all draws.
        by_label: the rows of the training part, by label.
    """

    def __init__(self, train: Split, shots: int, seed: int) -> None:
        self.train, self.shots, self.seed = train, shots, seed
        self.by_label: dict[int, list[int]] = defaultdict(list)
        for row, label in enumerate(train.labels):
            self.by_label[int(label)].append(row)

    def draw(self, row: int, *, own: bool) -> list[int]:
        """Draw the rows of the training part to show with a row, in the order in which they are shown.

        No example is repeated until all others of its label have been used.

        Args:
            row: number of the row in its part.
            own: whether the row belongs to the training part. A row is never shown with its own answer.
        """
        if not self.shots:
            return []
        generator = np.random.default_rng([self.seed, int(own), row])
        labels = generator.permutation(sorted(self.by_label))
        remaining: dict[int, list[int]] = {}
        examples: list[int] = []
        for number in range(self.shots):
            label = int(labels[number % len(labels)])
            if not remaining.get(label):
                rows = self.by_label[label]
                drawn = generator.choice(len(rows), min(self.shots + 1, len(rows)), replace=False)
                remaining[label] = [rows[place] for place in drawn if not (own and rows[place] == row)]
            if remaining[label]:
                examples.append(remaining[label].pop())
        return examples
