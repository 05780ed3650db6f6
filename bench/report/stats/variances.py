"""Estimate how uncertain a mean score is, with its variance over examples and over seeds kept apart.

The scores of a cell form a table of seeds by examples. Its variation has three parts: one of the seed, one of the
example, and a residual, which is one seed's answer to one example. The residual adds to the variance over examples and
to the variance over seeds, so it is subtracted from one of them. This is the two-way random effects model without
replication (Searle, Casella and McCulloch 1992, chapter 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.config.enums import Metric
from bench.report.stats.bootstrap import Array, bootstrap, score_of

LEVEL = 0.05


@dataclass(frozen=True)
class Variances:
    """Variances of the mean scores of some cells. All arrays are [cells] unless a shape is given.

    Attributes:
        means: Mean score over the seeds.
        seeds: Number of seeds.
        examples: Number of examples.
        over_examples: Variance of a mean from resampling the examples.
        together: Covariance of the means from resampling the examples, [cells, cells].
        of_differences: Variance of a paired difference of means from resampling the examples, [cells, cells].
        over_seeds: Variance of a mean from resampling the seeds, without the noise of examples; 0 for one seed.
        spread: Observed variance over seeds divided by their number, noise of examples included; 0 for one seed.
        rest: The part of `spread` that is noise of examples; 0 for one seed.
    """

    means: Array
    seeds: Array
    examples: int
    over_examples: Array
    together: Array
    of_differences: Array
    over_seeds: Array
    spread: Array
    rest: Array

    @property
    def resolution(self) -> float:
        """Variance of a score from rounding to whole examples: seeds with equal scores may differ by this much."""
        return 1 / (12 * max(1, self.examples) ** 2)


def variances_of(cells: Sequence[Array], truth: Array, metric: str) -> Variances:
    """Estimate the variances of mean scores.

    Args:
        cells: Predictions of each cell, [seeds, examples].
        truth: Right answers, [examples].
        metric: A name of `bench.config.enums.Metric`. Variances are exact for accuracy. Other metrics use a bootstrap
            over examples.
    """
    means, spread, rest = (np.zeros(len(cells)) for _ in range(3))
    counts = np.array([len(cell) for cell in cells])
    seed_scores, together, seed_variances = _over_examples(cells, truth, metric)
    over_examples = together.diagonal()
    for index, scores in enumerate(seed_scores):
        means[index] = scores.mean()
        if len(scores) > 1:
            spread[index] = scores.var(ddof=1) / len(scores)
            rest[index] = max(0, seed_variances[index] - over_examples[index]) / (len(scores) - 1)
    return Variances(
        means=means,
        seeds=counts,
        examples=len(truth),
        over_examples=over_examples,
        together=together,
        of_differences=np.maximum(over_examples[:, None] + over_examples - 2 * together, 0),
        over_seeds=np.maximum(spread - rest, 0),
        spread=spread,
        rest=rest,
    )


def _over_examples(cells: Sequence[Array], truth: Array, metric: str) -> tuple[list[Array], Array, Array]:
    """Estimate the variation from resampling the examples.

    Returns:
        The scores of each cell, [seeds].
        The covariance of the cells' means, [cells, cells].
        The variance of the score of a single seed, averaged over the seeds, [cells].
    """
    if metric == "accuracy":
        correct = [cell == truth for cell in cells]
        seed_scores = [answers.mean(axis=1) for answers in correct]
        by_example = np.array([answers.mean(axis=0) for answers in correct])
        together = np.atleast_2d(np.cov(by_example)) / len(truth)
        variances = [(scores * (1 - scores)).mean() / max(1, len(truth) - 1) for scores in seed_scores]
        return seed_scores, together, np.array(variances)
    seed_scores = [score_of(cell, truth, metric) for cell in cells]
    resampled = bootstrap(cells, truth, metric)
    together = np.atleast_2d(np.cov([scores.mean(axis=0) for scores in resampled]))
    return seed_scores, together, np.array([scores.var(axis=1, ddof=1).mean() for scores in resampled])


def intervals(cells: Sequence[Array], truth: Array, metric: str) -> list[tuple[float, float]]:
    """Compute the 95% interval of each cell's mean score over seeds and examples.

    With one seed, the interval is over examples alone. Each source of variance uses the t quantile of its own degrees
    of freedom, and the squared half-widths are added. This is the modified large-sample interval (Graybill and Wang
    1980; Burdick and Graybill 1992). With pooled degrees of freedom, intervals would be too short
    where three seeds happen to agree.

    Args:
        cells: Predictions of each cell, [seeds, examples].
        truth: Right answers, [examples].
        metric: A name of `bench.config.enums.Metric`.

    Returns:
        Lower and upper edge for each cell, clipped to the range of the metric.
    """
    from scipy.special import stdtrit

    variances = variances_of(cells, truth, metric)
    of_examples = stdtrit(max(1, variances.examples - 1), 1 - LEVEL / 2) ** 2 * variances.over_examples
    of_seeds = stdtrit(np.maximum(variances.seeds - 1, 1), 1 - LEVEL / 2) ** 2 * variances.over_seeds
    reach, lowest = np.sqrt(of_examples + of_seeds), -1.0 if Metric(metric).is_correlation else 0.0
    lows, highs = np.maximum(variances.means - reach, lowest), np.minimum(variances.means + reach, 1.0)
    return list(zip(lows.tolist(), highs.tolist(), strict=True))
