"""Paired tests of cells: whether two differ by more than other examples and other seeds would make them differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.report.statistics import ROUNDING, Array, bootstrap, score_of

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """Of two mean scores, one less the other: with its 95% interval and the p-value of none. None: not known."""

    score: float
    interval: tuple[float, float] | None
    p: float | None


@dataclass(frozen=True)
class Pairs:
    """Every two cells of a family. names, means: of the cells. The rest is [cells, cells]: the standard error of a
    difference of means, its degrees of freedom, and the two-sided p-value of no difference.
    """

    names: tuple[str, ...]
    means: Array
    error: Array
    degrees: Array
    p: Array

    def between(self, one: str, other: str) -> Difference:
        """Of two cells by name."""
        from scipy.special import stdtrit

        here = self.names.index(one), self.names.index(other)
        difference = float(self.means[here[0]] - self.means[here[1]])
        reach = float(stdtrit(self.degrees[here], 1 - LEVEL / 2) * self.error[here])
        return Difference(difference, (difference - reach, difference + reach), float(self.p[here]))

    @cached_property
    def tied(self) -> frozenset[str]:
        """Which cells cannot be told from the best by mean score; the best is one of them.

        All pairs are one family, not only those with the best: which one is best was seen in the same examples. Of
        several equally good ones a cell is tied if it cannot be told from one.
        """
        best = self.means >= self.means.max(initial=-np.inf) - ROUNDING
        pairs, adjusted = np.triu_indices(len(self.names), 1), np.ones_like(self.p)
        adjusted[pairs] = holm(self.p[pairs])
        verdicts = best | (np.minimum(adjusted, adjusted.T)[best] > LEVEL).any(axis=0)
        return frozenset(name for name, verdict in zip(self.names, verdicts, strict=True) if verdict)


def pairs_of(cells: Mapping[str, Array], truth: Array, metric: str) -> Pairs:
    """Test every two cells. cells: predictions by name, each [seeds, examples]; truth: [examples].

    The variance of a difference is that over examples, paired, plus that over seeds. Three seeds of two cells tell
    little of the latter: it is that of the whole family's cells, or their own where that is larger. Then t, with
    Satterthwaite's degrees of freedom. Of one seed each nothing is known of seeds; an accuracy gets McNemar's exact
    test, which is about these trained models.
    """
    rows = list(cells.values())
    scores = [score_of(row, truth, metric) for row in rows]
    means = np.array([score.mean() for score in scores])
    of_examples = _over_examples(rows, truth, metric)
    of_seeds, seeds_degrees = _over_seeds(scores)
    error, degrees = np.sqrt(of_examples + of_seeds), np.full_like(of_examples, max(1, len(truth) - 1))
    if seeds_degrees:
        parts = of_examples**2 / degrees + of_seeds**2 / seeds_degrees
        degrees = np.divide(error**4, parts, out=degrees, where=parts > 0)
    alone = metric == "accuracy" and max(map(len, rows), default=1) == 1
    p = _mcnemar(rows, truth) if alone else _t_test(means, error, degrees)
    return Pairs(tuple(cells), means, error, degrees, p)


def _over_examples(cells: Sequence[Array], truth: Array, metric: str) -> Array:
    """The variance of every difference of mean scores if the examples were others. Returns [cells, cells]."""
    if metric == "accuracy":
        right = np.array([(cell == truth).mean(axis=0) for cell in cells])
        together = np.atleast_2d(np.cov(right)) / len(truth)
    else:
        drawn = [one.mean(axis=0) for one in bootstrap(cells, truth, metric)]
        together = np.atleast_2d(np.cov(drawn))
    own = together.diagonal()
    return np.asarray(np.maximum(own[:, None] + own - 2 * together, 0))


def _over_seeds(scores: Sequence[Array]) -> tuple[Array, int]:
    """The variance of every difference of mean scores if the seeds were others; and its degrees of freedom.

    scores: each [seeds]. Returns [cells, cells], zeros where no cell has a second seed.
    """
    counts = np.array([len(score) for score in scores])
    own = np.array([score.var(ddof=1) if len(score) > 1 else 0 for score in scores])
    degrees = int((counts - 1).sum())
    of_all = ((counts - 1) * own).sum() / max(1, degrees)
    shared, alone = of_all / counts, own / counts
    return np.maximum(shared[:, None] + shared, alone[:, None] + alone), degrees


def _t_test(means: Array, error: Array, degrees: Array) -> Array:
    from scipy.special import stdtr

    difference = np.abs(means[:, None] - means)
    t = np.divide(difference, error, out=np.where(difference > ROUNDING, np.inf, 0), where=error > ROUNDING)
    return np.asarray(2 * stdtr(degrees, -t))


def _mcnemar(cells: Sequence[Array], truth: Array) -> Array:
    """Exact, of cells with one seed each."""
    from scipy.special import bdtr

    right = np.concatenate(cells) == truth
    won = (right.astype(np.float32) @ ~right.T).astype(int)  # [i, j]: examples that i has right and j wrong
    return np.asarray(np.minimum(2 * bdtr(np.minimum(won, won.T), won + won.T, 0.5), 1))


def holm(p: Array) -> Array:
    """Adjust a family's p-values, [tests]: at 5% all verdicts hold together in 95% of families (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method="holm")[1])
