"""How uncertain a mean score is: its variance over examples and over seeds, kept apart.

The scores of a cell form a table of seeds by examples. Part of the variation belongs to the seed, part to the example,
and the rest to this seed's answer to this example. The rest shows in both margins of the table, so it is taken out of
one of them: the two-way random effects model without replication (Searle, Casella and McCulloch 1992, chapter 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.config.enums import Metric
from bench.report.stats.bootstrap import Array, bootstrap, score_of

LEVEL = 0.05


@dataclass(frozen=True)
class Variances:
    """Variances of the mean scores of some cells. All arrays are [cells] unless a shape is given."""

    means: Array  # mean score over the seeds
    seeds: Array  # number of seeds
    examples: int  # number of examples
    over_examples: Array  # variance of a mean if the examples were others
    together: Array  # [cells, cells], covariance of the means if the examples were others
    of_differences: Array  # [cells, cells], variance of a difference of means if the examples were others, paired
    over_seeds: Array  # variance of a mean if the seeds were others, beyond the noise of examples; 0 for one seed
    spread: Array  # the observed variance over seeds divided by their number, noise included; 0 for one seed
    rest: Array  # the part of `spread` that is the noise of examples; 0 for one seed

    @property
    def resolution(self) -> float:
        """The variance that rounding to whole examples hides where seeds score alike."""
        return 1 / (12 * max(1, self.examples) ** 2)


def variances_of(cells: Sequence[Array], truth: Array, metric: str) -> Variances:
    """Estimate the variances of mean scores.

    Args:
        cells: predictions of each cell, [seeds, examples].
        truth: the right answers, [examples].
        metric: a name of `bench.config.enums.Metric`. Accuracy is exact; other metrics are resampled over examples.
    """
    means, spread, rest = (np.zeros(len(cells)) for _ in range(3))
    counts = np.array([len(cell) for cell in cells])
    rows, together, of_rows = _over_examples(cells, truth, metric)
    own = together.diagonal()
    for place, scores in enumerate(rows):
        means[place] = scores.mean()
        if len(scores) > 1:
            spread[place] = scores.var(ddof=1) / len(scores)
            rest[place] = max(0, of_rows[place] - own[place]) / (len(scores) - 1)
    return Variances(
        means=means,
        seeds=counts,
        examples=len(truth),
        over_examples=own,
        together=together,
        of_differences=np.maximum(own[:, None] + own - 2 * together, 0),
        over_seeds=np.maximum(spread - rest, 0),
        spread=spread,
        rest=rest,
    )


def _over_examples(cells: Sequence[Array], truth: Array, metric: str) -> tuple[list[Array], Array, Array]:
    """What other examples would change.

    Returns:
        The scores of each cell, [seeds]; the covariance of the cells' means, [cells, cells]; the mean variance of the
        score of one seed, [cells].
    """
    if metric == "accuracy":
        right = [cell == truth for cell in cells]
        rows = [one.mean(axis=1) for one in right]
        by_example = np.array([one.mean(axis=0) for one in right])
        together = np.atleast_2d(np.cov(by_example)) / len(truth)
        return rows, together, np.array([(row * (1 - row)).mean() / max(1, len(truth) - 1) for row in rows])
    rows = [score_of(cell, truth, metric) for cell in cells]
    drawn = bootstrap(cells, truth, metric)
    together = np.atleast_2d(np.cov([one.mean(axis=0) for one in drawn]))
    return rows, together, np.array([one.var(axis=1, ddof=1).mean() for one in drawn])


def intervals(cells: Sequence[Array], truth: Array, metric: str) -> list[tuple[float, float]]:
    """95% interval of each cell's mean score over seeds and examples; with one seed over examples alone.

    Each source of variance has the t quantile of its own degrees of freedom, and the squares add up: the modified
    large-sample interval (Graybill and Wang 1980; Burdick and Graybill 1992). Pooled degrees of freedom would cover
    too little where three seeds happen to agree. Arguments as for `variances_of`.
    """
    from scipy.special import stdtrit

    found = variances_of(cells, truth, metric)
    of_examples = stdtrit(max(1, found.examples - 1), 1 - LEVEL / 2) ** 2 * found.over_examples
    of_seeds = stdtrit(np.maximum(found.seeds - 1, 1), 1 - LEVEL / 2) ** 2 * found.over_seeds
    reach, lowest = np.sqrt(of_examples + of_seeds), -1.0 if Metric(metric).is_correlation else 0.0
    lows, highs = np.maximum(found.means - reach, lowest), np.minimum(found.means + reach, 1.0)
    return list(zip(lows.tolist(), highs.tolist(), strict=True))
