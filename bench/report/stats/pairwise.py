"""Test whether the difference of two cells exceeds the variation expected from resampling examples and seeds.

All pairs of a table share one max-T test (Westfall and Young 1993). The null distribution is that of the largest
studentised difference between any two cells if all cells were equally good. Verdicts and intervals hold for all pairs
together.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.report.stats.bootstrap import ROUNDING, Array
from bench.report.stats.seed_variances import draw_variances
from bench.report.stats.variances import LEVEL, Variances, variances_of

DRAWS = 1999  # with the observed table these are 2,000, and 5% of that is a whole number
# Added to the diagonal, as a share of the largest variance. Cells with equal answers have a singular covariance, which
# has no Cholesky factor.
JITTER = 1e-10


@dataclass(frozen=True)
class Difference:
    """The difference of two mean scores, first minus second.

    Attributes:
        score: The difference.
        interval: 95% interval for all pairs together; over examples alone if `p` is None; None if unknown.
        p: Two-sided p-value, adjusted for all pairs; None if a cell cannot be tested.
        cells: Number of tested cells in the table.
    """

    score: float
    interval: tuple[float, float] | None
    p: float | None
    cells: int = 0


@dataclass(frozen=True)
class Pairs:
    """All pairs of the cells of a table.

    Attributes:
        names: Names of the cells.
        variances: Variances of their mean scores.
        error: Standard error of a difference of means, [cells, cells]; over examples alone if either cell has one seed.
        largest: Largest studentised difference of equally good cells in each draw, [draws], in ascending order.
    """

    names: tuple[str, ...]
    variances: Variances
    error: Array
    largest: Array

    def between(self, first: str, second: str) -> Difference:
        """Compare two cells by name.

        If either cell has one seed, there is no test, and the interval is over examples alone.
        """
        from scipy.special import stdtrit

        pair = self.names.index(first), self.names.index(second)
        score, tested = float(self.variances.means[pair[0]] - self.variances.means[pair[1]]), self.tested[list(pair)]
        if tested.all():
            reach = float(self.reach[pair])
            return Difference(score, (score - reach, score + reach), float(self.p[pair]), int(self.tested.sum()))
        reach = float(stdtrit(max(1, self.variances.examples - 1), 1 - LEVEL / 2) * self.error[pair])
        return Difference(score, (score - reach, score + reach), None, int(self.tested.sum()))

    @property
    def tested(self) -> Array:
        """Whether each cell has the two seeds that a test needs, [cells]."""
        return np.asarray(self.variances.seeds > 1)

    @property
    def quantile(self) -> float:
        """The critical value: the largest studentised difference of equally good cells exceeds it in 5% of tables."""
        return float(self.largest[round((1 - LEVEL) * (len(self.largest) + 1)) - 1])

    @property
    def reach(self) -> Array:
        """Half the width of the 95% interval of each difference, for all pairs together, [cells, cells]."""
        return self.quantile * self.error

    @cached_property
    def p(self) -> Array:
        """Adjusted p-values: the share of draws whose largest difference is at least the observed difference.

        Returns:
            p-values, [cells, cells]; nan where a cell has one seed. A p-value is at most 5% if and only if the
            difference exceeds its reach.
        """
        difference = np.abs(self.variances.means[:, None] - self.variances.means)
        t = np.divide(
            difference, self.error, out=np.where(difference > ROUNDING, np.inf, 0), where=self.error > ROUNDING
        )
        draws = len(self.largest)
        p = (1 + draws - np.searchsorted(self.largest, t)) / (1 + draws)
        return np.where(self.tested[:, None] & self.tested, p, np.nan)

    def tied(self, names: Iterable[str] | None = None) -> frozenset[str]:
        """Return the cells that are not significantly worse than the best mean score, the best included.

        If several cells share the best mean score, a cell is tied if at least one of them is not significantly better.
        A cell with one seed is never tied, because it was not tested.

        Args:
            names: The cells shown in a table; all if None.
        """
        shown = np.isin(self.names, list(self.names if names is None else names))
        best = shown & (self.variances.means >= self.variances.means[shown].max(initial=-np.inf) - ROUNDING)
        verdicts = best | (shown & (self.p[best] > LEVEL).any(axis=0))
        return frozenset(name for name, verdict in zip(self.names, verdicts, strict=True) if verdict)


def pairs_of(cells: Mapping[str, Array], truth: Array, metric: str) -> Pairs:
    """Test all pairs of cells that have at least two seeds.

    The variance of a difference is the paired variance over examples plus the variance over seeds of each cell.

    Args:
        cells: Predictions by name, each [seeds, examples].
        truth: Right answers, [examples].
        metric: A name of `bench.config.enums.Metric`.
    """
    names = tuple(sorted(cells))  # random draws go by position, so sorting keeps verdicts independent of the order
    variances = variances_of([cells[name] for name in names], truth, metric)
    tested, random = variances.seeds > 1, np.random.default_rng(0)
    drawn_variances = _draw_over_seeds(variances, tested, random)
    over_seeds = np.zeros(len(names))
    # Mean of the roots: with two seeds the mean of the variances themselves can be infinite.
    over_seeds[tested] = np.sqrt(drawn_variances).mean(axis=0) ** 2
    both_tested = tested[:, None] & tested
    error = np.sqrt(variances.of_differences + np.where(both_tested, over_seeds[:, None] + over_seeds, 0))
    shifts = _draw_over_examples(variances.together[np.ix_(tested, tested)], random)
    shifts += random.standard_normal(shifts.shape) * np.sqrt(drawn_variances)
    return Pairs(names, variances, error, np.sort(_largest(shifts, error[np.ix_(tested, tested)])))


def _draw_over_seeds(variances: Variances, tested: Array, random: np.random.Generator) -> Array:
    """Draw variances of means over seeds, without the noise of examples. Returns [draws, tested cells]."""
    if not tested.any():
        return np.zeros((DRAWS, 0))
    seeds = variances.seeds[tested]
    observed = np.maximum(variances.spread[tested] * seeds, variances.resolution)
    drawn = draw_variances(observed, seeds - 1, DRAWS, random)
    return np.asarray(np.maximum(drawn / seeds - variances.rest[tested], 0))


def _draw_over_examples(together: Array, random: np.random.Generator) -> Array:
    """Draw how other examples would shift the means of equally good cells. Returns [draws, cells]."""
    if not together.size:
        return np.zeros((DRAWS, 0))
    jitter = np.eye(len(together)) * max(JITTER * together.diagonal().max(), ROUNDING**2)
    factor = np.linalg.cholesky(together + jitter)
    return np.asarray(random.standard_normal((DRAWS, len(together))) @ factor.T)


def _largest(shifts: Array, error: Array) -> Array:
    """Return the largest studentised difference between any two cells in each draw; shifts: [draws, cells]."""
    scores = np.ascontiguousarray(shifts.T, dtype=np.float32)
    scale = np.divide(1, error, out=np.zeros_like(error), where=error > ROUNDING).astype(np.float32)
    largest = np.zeros(len(shifts), dtype=np.float32)
    for index in range(len(scores) - 1):
        difference = np.abs(scores[index + 1 :] - scores[index])
        difference *= scale[index, index + 1 :, None]
        np.maximum(largest, difference.max(axis=0), out=largest)
    return largest.astype(float)
