"""Which rows are cut out of a split: seeded, stratified by label, and never one of several equal texts alone."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

Group = list[int]  # rows that must stay together
BINS = 10  # of numbers that are to be predicted, by rank


def choose(labels: Sequence[float], keys: Sequence[str], rows: int, seed: int) -> set[int]:
    """Choose `rows` rows, or as near to it as equal texts allow, with the labels in the same shares as in all rows.

    Every label keeps a row that is not chosen. Numbers are stratified by their rank.

    Args:
        labels: a class per row, as `int`, or a number to be predicted, as `float`.
        keys: rows with the same key are chosen together or not at all.
        rows: at most half of all rows.
        seed: decides which rows are chosen.

    Returns:
        The chosen rows; none where every label has only one group of equal texts.
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
    """The groups of each class in turn, or of each range of numbers; a group counts by its first row."""
    first = [labels[group[0]] for group in groups]
    if all(isinstance(label, (int, np.integer)) for label in first):
        numbers = np.asarray(first)
    else:  # at least two groups in each bin, so that all of them can lose one
        bins = max(1, min(BINS, len(groups) // 2))
        numbers = np.empty(len(first), dtype=int)
        numbers[np.argsort(first, kind="stable")] = np.arange(len(first)) * bins // len(first)
    strata: dict[int, list[Group]] = defaultdict(list)
    for number, group in zip(numbers.tolist(), groups, strict=True):
        strata[number].append(group)
    return [strata[number] for number in sorted(strata)]


def _shares(strata: Sequence[Sequence[Group]], rows: int, seed: int) -> list[int]:
    """How many rows each stratum gives: in proportion, by largest remainder, but never its last group."""
    sizes = [sum(map(len, stratum)) for stratum in strata]
    most = [size - min(map(len, stratum)) for size, stratum in zip(sizes, strata, strict=True)]
    total = sum(sizes)
    shares = [min(rows * size // total, limit) for size, limit in zip(sizes, most, strict=True)]
    # Of equal remainders the seed decides, by a stream of its own: the one that draws rows stays as it is.
    ties = np.random.default_rng([seed, 1]).permutation(len(sizes)).tolist()
    order = sorted(range(len(sizes)), key=lambda place: (-(rows * sizes[place] % total), ties[place]))
    while sum(shares) < rows and (order := [place for place in order if shares[place] < most[place]]):
        for place in order[: rows - sum(shares)]:
            shares[place] += 1
    return shares


def _draw(stratum: Sequence[Group], share: int, generator: np.random.Generator) -> list[int]:
    """Rows of a stratum in a random order of its groups, as many as fit; one group more where that is nearer."""
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
    lacking = share - len(drawn)
    if lacking and len(too_large) > 1:  # one stays
        smallest = min(too_large, key=len)
        if len(smallest) - lacking < lacking:
            drawn += smallest
    return drawn
