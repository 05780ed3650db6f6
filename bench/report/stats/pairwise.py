"""Paired tests: does a difference of two cells exceed the variation expected from other examples and other seeds.

One max-T test over a table (Westfall and Young 1993): the distribution of the largest studentised difference between
any two of its cells, if all were equally good, judges every pair. Verdicts and intervals hold for all pairs together.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.report.stats.bootstrap import ROUNDING, Array
from bench.report.stats.seed_variances import draw_variances
from bench.report.stats.variances import LEVEL, Variances, variances_of

DRAWS = 1999  # so that 5% of them, the observed table included, is a whole number
JITTER = 1e-10  # of the largest variance: a covariance of cells that answer alike has no Cholesky factor without it


@dataclass(frozen=True)
class Difference:
    """A difference of two mean scores, the first less the second."""

    score: float
    interval: tuple[float, float] | None  # 95%, for all pairs together; over examples where p is None; None if unknown
    p: float | None  # two-sided, of all pairs together; None where nothing can be tested
    cells: int = 0  # cells of the table that were tested


@dataclass(frozen=True)
class Pairs:
    """All pairs of the cells of a table."""

    names: tuple[str, ...]
    variances: Variances
    error: Array  # standard error of a difference of means, [cells, cells]; over examples alone if either has one seed
    largest: Array  # largest studentised difference of equally good cells, [draws], in ascending order

    def between(self, first: str, second: str) -> Difference:
        """Compare two cells by name. With one seed in either there is no test, and the interval is over examples."""
        from scipy.special import stdtrit

        here = self.names.index(first), self.names.index(second)
        score, tested = float(self.variances.means[here[0]] - self.variances.means[here[1]]), self.tested[list(here)]
        if tested.all():
            reach = float(self.reach[here])
            return Difference(score, (score - reach, score + reach), float(self.p[here]), int(self.tested.sum()))
        reach = float(stdtrit(max(1, self.variances.examples - 1), 1 - LEVEL / 2) * self.error[here])
        return Difference(score, (score - reach, score + reach), None, int(self.tested.sum()))

    @property
    def tested(self) -> Array:
        """Whether a cell has the seeds that a test needs: [cells]."""
        return np.asarray(self.variances.seeds > 1)

    @property
    def quantile(self) -> float:
        """The studentised difference that the largest one of equally good cells exceeds in 5% of tables."""
        return float(self.largest[round((1 - LEVEL) * (len(self.largest) + 1)) - 1])

    @property
    def reach(self) -> Array:
        """Half the width of the 95% intervals of differences, for all pairs together: [cells, cells]."""
        return self.quantile * self.error

    @cached_property
    def p(self) -> Array:
        """p-values for all pairs together: the share of draws whose largest difference is at least the observed one.

        Returns:
            [cells, cells]; nan where a cell has one seed. At most 5% exactly where a difference exceeds its reach.
        """
        difference = np.abs(self.variances.means[:, None] - self.variances.means)
        t = np.divide(
            difference, self.error, out=np.where(difference > ROUNDING, np.inf, 0), where=self.error > ROUNDING
        )
        draws = len(self.largest)
        p = (1 + draws - np.searchsorted(self.largest, t)) / (1 + draws)
        return np.where(self.tested[:, None] & self.tested, p, np.nan)

    def tied(self, names: Iterable[str] | None = None) -> frozenset[str]:
        """The cells that cannot be told from the best by mean score, the best included.

        Of several equally good ones a cell is tied if it cannot be told from one of them. A cell with one seed is never
        tied, since it was not tested.

        Args:
            names: the cells that stand in a table; all if None.
        """
        shown = np.isin(self.names, list(self.names if names is None else names))
        best = shown & (self.variances.means >= self.variances.means[shown].max(initial=-np.inf) - ROUNDING)
        verdicts = best | (shown & (self.p[best] > LEVEL).any(axis=0))
        return frozenset(name for name, verdict in zip(self.names, verdicts, strict=True) if verdict)


def pairs_of(cells: Mapping[str, Array], truth: Array, metric: str) -> Pairs:
    """Test all pairs of cells that have at least two seeds.

    The variance of a difference is that over examples, paired, plus that of either cell over its seeds.

    Args:
        cells: predictions by name, each [seeds, examples].
        truth: the right answers, [examples].
        metric: a name of `bench.config.enums.Metric`.
    """
    names = tuple(sorted(cells))  # draws belong to places, so that verdicts do not depend on the order of cells
    found = variances_of([cells[name] for name in names], truth, metric)
    several, random = found.seeds > 1, np.random.default_rng(0)
    over_seeds = _draw_over_seeds(found, several, random)
    of_seeds = np.zeros(len(names))
    of_seeds[several] = np.sqrt(over_seeds).mean(axis=0) ** 2  # the plain mean can be infinite with two seeds
    both = several[:, None] & several
    error = np.sqrt(found.of_differences + np.where(both, of_seeds[:, None] + of_seeds, 0))
    moved = _draw_over_examples(found.together[np.ix_(several, several)], random)
    moved += random.standard_normal(moved.shape) * np.sqrt(over_seeds)
    return Pairs(names, found, error, np.sort(_largest(moved, error[np.ix_(several, several)])))


def _draw_over_seeds(found: Variances, several: Array, random: np.random.Generator) -> Array:
    """Draw variances of means over seeds, beyond the noise of examples: [draws, tested cells]."""
    if not several.any():
        return np.zeros((DRAWS, 0))
    seeds = found.seeds[several]
    observed = np.maximum(found.spread[several] * seeds, found.resolution)
    drawn = draw_variances(observed, seeds - 1, DRAWS, random)
    return np.asarray(np.maximum(drawn / seeds - found.rest[several], 0))


def _draw_over_examples(together: Array, random: np.random.Generator) -> Array:
    """Draw what other examples would change of the means of equally good cells: [draws, cells]."""
    if not together.size:
        return np.zeros((DRAWS, 0))
    jitter = np.eye(len(together)) * max(JITTER * together.diagonal().max(), ROUNDING**2)
    factor = np.linalg.cholesky(together + jitter)
    return np.asarray(random.standard_normal((DRAWS, len(together))) @ factor.T)


def _largest(moved: Array, error: Array) -> Array:
    """The largest studentised difference between any two cells in each draw; moved: [draws, cells]."""
    scores = np.ascontiguousarray(moved.T, dtype=np.float32)
    scale = np.divide(1, error, out=np.zeros_like(error), where=error > ROUNDING).astype(np.float32)
    largest = np.zeros(len(moved), dtype=np.float32)
    for place in range(len(scores) - 1):
        apart = np.abs(scores[place + 1 :] - scores[place])
        apart *= scale[place, place + 1 :, None]
        np.maximum(largest, apart.max(axis=0), out=largest)
    return largest.astype(float)
