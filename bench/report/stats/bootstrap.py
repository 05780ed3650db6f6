"""Scores under resampling, the expected best of several rates, and ranks over tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def bootstrap(cells: Sequence[Array], truth: Array, metric: str, draws: int = 1000, seed: int = 0) -> list[Array]:
    """Score every cell under the same draws of examples. Returns of each [seeds, draws]."""
    scores = _redrawn(np.concatenate(cells), truth, metric, draws, seed)
    return np.split(scores, np.cumsum([len(cell) for cell in cells])[:-1])


def _redrawn(predictions: Array, truth: Array, metric: str, draws: int, seed: int) -> Array:
    """Score every row under the same draws of examples, some draws at a time. Returns [rows, draws]."""
    random, examples, scores = np.random.default_rng([seed, 0]), len(truth), []
    for some in np.diff([*range(0, draws, max(1, BLOCK // examples)), draws]):
        taken = random.integers(examples, size=(some, examples)) + examples * np.arange(some)[:, None]
        weights = np.bincount(taken.ravel(), minlength=some * examples).reshape(some, examples)
        scores.append(score_of(predictions, truth, metric, weights))
    return np.concatenate(scores, axis=1)


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
