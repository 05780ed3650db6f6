"""Paired tests: does a difference of two cells exceed the variation expected from other examples and other seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.report.statistics import ROUNDING, Array
from bench.report.variances import LEVEL, Variances, variances_of


@dataclass(frozen=True)
class Difference:
    """A difference of two mean scores, the first less the second."""

    score: float
    interval: tuple[float, float] | None  # 95%, of this pair alone; over examples only where p is None; None if unknown
    p: float | None  # two-sided, corrected for all pairs of the family (Holm); None where nothing can be tested
    pairs: int = 0  # pairs of the family that were tested


@dataclass(frozen=True)
class Pairs:
    """All pairs of a family of cells. `error`, `degrees` and `p` are [cells, cells]."""

    names: tuple[str, ...]
    variances: Variances
    error: Array  # standard error of a difference of means over examples and seeds
    degrees: Array  # its degrees of freedom
    p: Array  # two-sided p-value of no difference, uncorrected; nan where a cell has one seed

    def between(self, first: str, second: str) -> Difference:
        """Compare two cells by name. With one seed in either there is no test, and the interval is over examples."""
        from scipy.special import stdtrit

        here = self.names.index(first), self.names.index(second)
        score = float(self.variances.means[here[0]] - self.variances.means[here[1]])
        tested = bool(np.isfinite(self.p[here]))
        error = self.error[here] if tested else self.variances.of_differences[here] ** 0.5
        degrees = self.degrees[here] if tested else max(1, self.variances.examples - 1)
        reach = float(stdtrit(degrees, 1 - LEVEL / 2) * error)
        p = float(self.corrected[here]) if tested else None
        return Difference(score, (score - reach, score + reach), p, self.tests)

    @cached_property
    def corrected(self) -> Array:
        """The p-values after Holm's correction for all pairs that were tested: [cells, cells]."""
        corrected = np.where(np.isfinite(self.p), 1.0, np.nan)
        first, second = np.triu_indices(len(self.names), 1)
        tested = np.isfinite(self.p[first, second])
        first, second = first[tested], second[tested]
        if tested.any():
            corrected[first, second] = corrected[second, first] = holm(self.p[first, second])
        return corrected

    @property
    def tests(self) -> int:
        """Number of pairs that were tested."""
        several = int((self.variances.seeds > 1).sum())
        return several * (several - 1) // 2

    @cached_property
    def tied(self) -> frozenset[str]:
        """The cells that cannot be told from the best by mean score, the best included.

        All pairs are one family, not only those with the best: which one is best was seen in the same examples. Of
        several equally good ones a cell is tied if it cannot be told from one of them. A cell with one seed is never
        tied, since it was not tested.
        """
        best = self.variances.means >= self.variances.means.max(initial=-np.inf) - ROUNDING
        verdicts = best | (self.corrected[best] > LEVEL).any(axis=0)
        return frozenset(name for name, verdict in zip(self.names, verdicts, strict=True) if verdict)


def pairs_of(cells: Mapping[str, Array], truth: Array, metric: str) -> Pairs:
    """Test all pairs of cells that have at least two seeds.

    The variance of a difference is that over examples, paired, plus that of either cell over its own seeds. The test is
    Welch's t with Satterthwaite's degrees of freedom. Nothing is borrowed from other cells: the seeds of one method may
    vary more than those of its neighbours.

    Args:
        cells: predictions by name, each [seeds, examples].
        truth: the right answers, [examples].
        metric: a name of `bench.choices.Metric`.
    """
    found = variances_of(list(cells.values()), truth, metric)
    error = np.sqrt(found.of_differences + (found.over_seeds[:, None] + found.over_seeds))
    of_seeds = found.spread**2 / np.maximum(found.seeds - 1, 1)
    examples = max(1, found.examples - 1)
    parts = found.of_differences**2 / examples + (of_seeds[:, None] + of_seeds)
    degrees = np.divide(error**4, parts, out=np.full_like(error, examples), where=(parts > 0) & (error > ROUNDING))
    p = _t_test(found.means, error, degrees)
    alone = found.seeds < 2
    p[alone[:, None] | alone] = np.nan
    return Pairs(tuple(cells), found, error, degrees, p)


def _t_test(means: Array, error: Array, degrees: Array) -> Array:
    from scipy.special import stdtr

    difference = np.abs(means[:, None] - means)
    t = np.divide(difference, error, out=np.where(difference > ROUNDING, np.inf, 0), where=error > ROUNDING)
    return np.asarray(2 * stdtr(degrees, -t))


def holm(p: Array) -> Array:
    """Correct the p-values of a family, [tests]: at 5% all verdicts hold together in 95% of families (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method="holm")[1])
