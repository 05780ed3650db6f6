"""What a few seeds on a few hundred examples can tell: scores under resampling, intervals, differences, ties, ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK = 4_000_000  # numbers in a block of weights (32 MB), however many examples a part has
ROUNDING = 1e-12  # what differs by less is equal


def score_of(predictions: Array, truth: Array, metric: str, weights: Array | None = None) -> Array:
    """Score every row as scikit-learn and scipy do; what is not defined counts as 0.

    predictions: [seeds, examples], -1 where there is no answer: a label that is never true. truth: [examples]. Returns
    [seeds]. With weights [draws, examples], how often each example was drawn, every row is scored under every draw:
    [seeds, draws]. Of spearman the ranks are then still those in the whole part, so that nothing is sorted per draw.
    """
    if metric not in METRICS:
        raise ValueError(f"metric '{metric}' is unknown; choose from {', '.join(METRICS)}")
    drawn = np.ones((1, len(truth))) if weights is None else np.asarray(weights, dtype=float)
    scores = METRICS[metric](predictions, truth, drawn)
    return scores[:, 0] if weights is None else scores


def _macro_f1(predictions: Array, truth: Array, weights: Array) -> Array:
    """The mean over the labels that were drawn, as true or as predicted ones."""
    each = [_f1_of(label, predictions, truth, weights) for label in np.union1d(truth, predictions)]
    return _ratio(np.sum([score for score, _ in each], axis=0), np.sum([drawn for _, drawn in each], axis=0))


def _f1_of(label: float, predictions: Array, truth: Array, weights: Array) -> tuple[Array, Array]:
    """The F1 of one label, and whether the label was drawn at all. Both: [seeds, draws]."""
    found, true = predictions == label, truth == label
    either = _count(found, weights) + _count(true, weights)
    return _ratio(2 * _count(found & true, weights), either), either > 0


def _matthews_correlation(predictions: Array, truth: Array, weights: Array) -> Array:
    """Of any number of labels (Gorodkin 2004, R_K)."""
    total, right = weights.sum(axis=1), _count(predictions == truth, weights)
    together, of_found, of_true = right * total, np.zeros_like(right) + total**2, total**2
    for label in np.union1d(truth, predictions):
        found, true = _count(predictions == label, weights), _count(truth == label, weights)
        together, of_found, of_true = together - found * true, of_found - found**2, of_true - true**2
    return _ratio(together, np.sqrt(of_found * of_true))


def _pearson(predictions: Array, truth: Array, weights: Array) -> Array:
    one = predictions - np.median(predictions, axis=1, keepdims=True)  # near 0, or the squares would drown the spread
    other = truth - np.median(truth)
    total, one_sum, other_sum = weights.sum(axis=1), _count(one, weights), _count(other, weights)
    one_square, other_square = total * _count(one**2, weights), total * _count(other**2, weights)
    one_spread, other_spread = one_square - one_sum**2, other_square - other_sum**2
    real = (one_spread > ROUNDING * one_square) & (other_spread > ROUNDING * other_square)  # the rest is constant
    spread = np.sqrt(np.where(real, one_spread * other_spread, 0))
    return _ratio(total * _count(one * other, weights) - one_sum * other_sum, spread)


def _spearman(predictions: Array, truth: Array, weights: Array) -> Array:
    return _pearson(pd.DataFrame(predictions).rank(axis=1).to_numpy(), pd.Series(truth).rank().to_numpy(), weights)


def _count(values: Array, weights: Array) -> Array:
    """Sum over the drawn examples. values: [..., examples]; weights: [draws, examples]. Returns [..., draws]."""
    return np.asarray(values.astype(float) @ weights.T)


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


METRICS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "accuracy": lambda predictions, truth, weights: _ratio(_count(predictions == truth, weights), weights.sum(axis=1)),
    "f1": lambda predictions, truth, weights: _f1_of(1, predictions, truth, weights)[0],
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews_correlation,
    "pearson": _pearson,
    "spearman": _spearman,
}


def interval(
    predictions: Array, truth: Array, metric: str, *, other: Array | None = None, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of the mean score over seeds, or of what it is above `other`'s: a bootstrap over seeds and examples.

    predictions, other: [seeds, examples]; truth: [examples]; seed: that of the draws, the same for both.
    """
    both = [one for one in (predictions, other) if one is not None]
    drawn = [(_bootstrap(one, truth, metric, draws, seed) * _shares(len(one), draws, seed)).sum(axis=0) for one in both]
    low, high = np.quantile(drawn[0] - sum(drawn[1:]), (0.025, 0.975))
    return float(low), float(high)


def _bootstrap(predictions: Array, truth: Array, metric: str, draws: int = 1000, seed: int = 0) -> Array:
    """Score every row under the same draws of examples, some draws at a time. Returns [rows, draws]."""
    random, examples, scores = np.random.default_rng([seed, 0]), len(truth), []
    for some in np.diff([*range(0, draws, max(1, BLOCK // examples)), draws]):
        taken = random.integers(examples, size=(some, examples)) + examples * np.arange(some)[:, None]
        weights = np.bincount(taken.ravel(), minlength=some * examples).reshape(some, examples)
        scores.append(score_of(predictions, truth, metric, weights))
    return np.concatenate(scores, axis=1)


def _shares(seeds: int, draws: int = 1000, seed: int = 0) -> Array:
    """The share of every seed in every draw: [seeds, draws]."""
    taken = max(1, seeds - 1)  # all would have too little spread, of three 2/3 of the variance (Rao and Wu 1988)
    return np.random.default_rng([seed, seeds]).multinomial(taken, np.full(seeds, 1 / seeds), size=draws).T / taken


def p_value(one: Array, other: Array, truth: Array, metric: str) -> float:
    """Two-sided, for "both are equally good". one, other: [seeds, examples], paired by place as far as both go.

    accuracy: McNemar's exact test of every pair of seeds; of several, twice the median, which is valid however they
    depend on one another (Meinshausen et al. 2009). That is about these trained models: on thousands of examples the
    luck of the seeds alone tells them apart. Other metrics: the difference over its spread in a paired bootstrap, as a
    normal variable; a count of 1000 draws could never get as low as Holm asks of many cells.
    """
    return float(all_pairs([one, other], truth, metric)[0, 1])


def all_pairs(cells: Sequence[Array], truth: Array, metric: str) -> Array:
    """`p_value` of every two cells, each [seeds, examples]. Returns [cells, cells], symmetric, 1 on the diagonal."""
    return _mcnemar(cells, truth) if metric == "accuracy" else _resampled(cells, truth, metric)


def _mcnemar(cells: Sequence[Array], truth: Array) -> Array:
    from scipy.special import bdtr

    p = np.full((max(map(len, cells)), len(cells), len(cells)), np.nan)  # of every seed; nan where one has none
    for seed, pairs in enumerate(p):
        there = [place for place, cell in enumerate(cells) if len(cell) > seed]
        right = np.stack([cells[place][seed] == truth for place in there]).astype(np.float32)
        won = (right @ (1 - right).T).astype(int)  # [i, j]: examples that i has right and j wrong
        pairs[np.ix_(there, there)] = np.minimum(2 * bdtr(np.minimum(won, won.T), won + won.T, 0.5), 1)
    factor = np.where(np.isfinite(p).sum(axis=0) > 1, 2, 1)
    return np.asarray(np.minimum(factor * np.nanmedian(p, axis=0), 1))


def _resampled(cells: Sequence[Array], truth: Array, metric: str) -> Array:
    from scipy.special import ndtr

    rows, ends = np.concatenate(cells), np.cumsum([len(cell) for cell in cells])[:-1]
    scores, drawn = (np.split(of(rows, truth, metric), ends) for of in (score_of, _bootstrap))
    shares = {seeds: _shares(seeds) for seeds in {len(cell) for cell in cells}}
    p = np.ones((len(cells), len(cells)))
    for one, other in combinations(range(len(cells)), 2):
        seeds = min(len(cells[one]), len(cells[other]))
        difference = abs((scores[one][:seeds] - scores[other][:seeds]).mean())
        spread = ((drawn[one][:seeds] - drawn[other][:seeds]) * shares[seeds]).sum(axis=0).std()
        p[one, other] = p[other, one] = 2 * ndtr(-difference / spread) if spread > ROUNDING else 1
    return p


def holm(p: Array) -> Array:
    """Adjust a family's p-values, [tests]: at 5% all verdicts hold together in 95% of families (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p, method="holm")[1])


def tied(cells: Sequence[Array], truth: Array, metric: str, *, level: float = 0.05) -> list[bool]:
    """Which cells cannot be told from the best by mean score; the best is one of them. cells: each [seeds, examples].

    All pairs are one family, not only those with the best: which one is best was seen in the same examples. Of
    several equally good ones a cell is tied if it cannot be told from one.
    """
    if len(cells) < 2:
        return [True] * len(cells)
    means = np.array([score_of(cell, truth, metric).mean() for cell in cells])
    best = means >= means.max() - ROUNDING
    pairs, adjusted = np.triu_indices(len(cells), 1), np.ones((len(cells), len(cells)))
    adjusted[pairs] = holm(all_pairs(cells, truth, metric)[pairs])
    return [bool(one) for one in best | (np.minimum(adjusted, adjusted.T)[best] > level).any(axis=0)]


def expected_best(scores: Sequence[float], tried: int) -> tuple[float, float]:
    """Mean and standard deviation of the best of `tried` draws, with replacement, from the scores of all rates.

    Dodge et al. 2019, arXiv:1909.03004: it is at most v with probability F(v)^tried, F the empirical distribution.
    """
    if not len(scores) or tried < 1:
        raise ValueError(f"the best of {tried} draws from {len(scores)} scores; give at least one of each")
    chance, ordered = np.diff((np.arange(len(scores) + 1) / len(scores)) ** tried), np.sort(scores)
    mean = float(chance @ ordered)
    return mean, float(np.sqrt(chance @ (ordered - mean) ** 2))


@dataclass(frozen=True)
class Ranks:
    """How methods place over tasks (Demsar 2006); `mean`: of every method's ranks, 1 is best."""

    methods: tuple[str, ...]
    mean: tuple[float, ...]
    critical_difference: float  # two mean ranks that are closer cannot be told apart: Nemenyi, 5%
    p: float  # Friedman's test of "all methods are equally good"


def ranks(scores: pd.DataFrame) -> Ranks:
    """Rank methods (columns) on every task (rows); larger scores are better and ties share their ranks.

    ValueError: fewer than five tasks or three methods, for which the tests do not hold, or a score is missing.
    """
    from scipy.stats import friedmanchisquare, studentized_range

    tasks, methods = scores.shape
    if tasks < 5 or methods < 3:
        raise ValueError(f"mean ranks need at least 5 tasks and 3 methods; got {tasks} and {methods}")
    if missing := [f"{method} on {task}" for method in scores for task in scores.index[scores[method].isna()]]:
        raise ValueError(f"mean ranks need a score of every method on every task; missing: {', '.join(missing)}")
    places = scores.round(12).rank(axis=1, ascending=False)
    p = float(friedmanchisquare(*places.to_numpy().T).pvalue) if np.ptp(places, axis=1).any() else 1.0
    critical = studentized_range.ppf(0.95, methods, np.inf) * np.sqrt(methods * (methods + 1) / (12 * tasks))
    return Ranks(tuple(map(str, scores.columns)), tuple(places.mean().tolist()), float(critical), p)
