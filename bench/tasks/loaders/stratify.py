"""Choose the rows to cut out of a split: seeded, stratified by label, and with equal texts kept together."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

Group = list[int]  # rows that must stay together
BINS = 10  # strata, by rank, of numbers to predict


def choose(labels: Sequence[float], keys: Sequence[str], rows: int, seed: int) -> set[int]:
    """Choose `rows` rows, or as close to that number as equal texts allow, in proportion to the labels.

    At least one row of every label is not chosen. Numbers to predict are stratified by rank.

    Args:
        labels: for each row a class, as `int`, or a number to predict, as `float`.
        keys: a key for each row. Rows with the same key are chosen together or not at all.
        rows: number of rows to choose, at most half of all rows.
        seed: determines which rows are chosen.

    Returns:
        The chosen rows. Empty if every label has only one group of equal texts.
    """
    groups: dict[str, Group] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    strata = _strata(labels, list(groups.values()))
    generator = np.random.default_rng(seed)
    chosen: set[int] = set()
    for stratum, share in zip(strata, _shares(strata, rows, seed), strict=True):
        chosen.update(_draw(stratum, share, generator))
    return chosen


def _strata(labels: Sequence[float], groups: Sequence[Group]) -> list[list[Group]]:
    """Sort the groups into one stratum per class, or per range of numbers, by the label of their first row."""
    group_labels = [labels[group[0]] for group in groups]
    if all(isinstance(label, (int, np.integer)) for label in group_labels):
        numbers = np.asarray(group_labels)
    else:  # at least two groups in each bin, so that each bin can lose one
        bins = max(1, min(BINS, len(groups) // 2))
        numbers = np.empty(len(group_labels), dtype=int)
        numbers[np.argsort(group_labels, kind="stable")] = np.arange(len(group_labels)) * bins // len(group_labels)
    strata: dict[int, list[Group]] = defaultdict(list)
    for number, group in zip(numbers.tolist(), groups, strict=True):
        strata[number].append(group)
    return [strata[number] for number in sorted(strata)]


def _shares(strata: Sequence[Sequence[Group]], rows: int, seed: int) -> list[int]:
    """Return how many rows to draw from each stratum.

    Shares are proportional, with the largest-remainder method. No stratum loses its last group.
    """
    sizes = [sum(map(len, stratum)) for stratum in strata]
    limits = [size - min(map(len, stratum)) for size, stratum in zip(sizes, strata, strict=True)]
    total = sum(sizes)
    shares = [min(rows * size // total, limit) for size, limit in zip(sizes, limits, strict=True)]
    # Ties between remainders are broken by a random stream of their own, so that they do not change which rows the
    # main stream draws.
    ties = np.random.default_rng([seed, 1]).permutation(len(sizes)).tolist()
    order = sorted(range(len(sizes)), key=lambda place: (-(rows * sizes[place] % total), ties[place]))
    while sum(shares) < rows and (order := [place for place in order if shares[place] < limits[place]]):
        for place in order[: rows - sum(shares)]:
            shares[place] += 1
    return shares


def _draw(stratum: Sequence[Group], share: int, generator: np.random.Generator) -> list[int]:
    """Draw about `share` rows of a stratum: take its groups in random order as long as they fit.

    If one more group brings the number closer to `share`, the smallest remaining one is added.
    """
    drawn: list[int] = []
    too_large: list[Group] = []
    for position in generator.permutation(len(stratum)):
        if len(drawn) == share:
            break
        group = stratum[position]
        if len(drawn) + len(group) <= share:
            drawn += group
        else:
            too_large.append(group)
    missing = share - len(drawn)
    if missing and len(too_large) > 1:  # at least one group must remain
        smallest = min(too_large, key=len)
        if len(smallest) - missing < missing:
            drawn += smallest
    return drawn
