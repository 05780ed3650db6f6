"""Score predictions on resampled examples, estimate the expected best rate, and rank methods over tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK = 4_000_000  # weights held in memory at a time (32 MB), whatever the size of a part
ROUNDING = 1e-12  # values that differ by less count as equal


def score_of(predictions: Array, truth: Array, metric: str, weights: Array | None = None) -> Array:
    """Score every row of predictions as scikit-learn and scipy do. An undefined score counts as 0.

    With weights, every row is scored under every draw. Spearman then keeps the ranks of the whole part, so that no draw
    needs a sort.

    Args:
        predictions: Predicted labels or numbers, [seeds, examples]. -1 marks a missing answer: no true label is -1.
        truth: Right answers, [examples].
        metric: A key of METRICS.
        weights: How often each draw contains each example, [draws, examples].

    Returns:
        Scores, [seeds]; with weights, [seeds, draws].

    Raises:
        ValueError: The metric is unknown.
    """
    if metric not in METRICS:
        raise ValueError(f"metric '{metric}' is unknown; choose from {', '.join(METRICS)}")
    drawn = np.ones((1, len(truth))) if weights is None else np.asarray(weights, dtype=float)
    scores = METRICS[metric](predictions, truth, drawn)
    return scores[:, 0] if weights is None else scores


def _macro_f1(predictions: Array, truth: Array, weights: Array) -> Array:
    """Average F1 over the labels in a draw, whether they occur as true or as predicted labels."""
    by_label = [_f1_of(label, predictions, truth, weights) for label in np.union1d(truth, predictions)]
    return _ratio(np.sum([score for score, _ in by_label], axis=0), np.sum([drawn for _, drawn in by_label], axis=0))


def _f1_of(label: float, predictions: Array, truth: Array, weights: Array) -> tuple[Array, Array]:
    """Return the F1 of one label and whether the label was drawn at all. Both are [seeds, draws]."""
    predicted, true = predictions == label, truth == label
    either = _count(predicted, weights) + _count(true, weights)
    return _ratio(2 * _count(predicted & true, weights), either), either > 0


def _matthews_correlation(predictions: Array, truth: Array, weights: Array) -> Array:
    """Compute the Matthews correlation for any number of labels (Gorodkin 2004, R_K)."""
    total, right = weights.sum(axis=1), _count(predictions == truth, weights)
    covariance, predicted_variance, true_variance = right * total, np.zeros_like(right) + total**2, total**2
    for label in np.union1d(truth, predictions):
        predicted, true = _count(predictions == label, weights), _count(truth == label, weights)
        covariance = covariance - predicted * true
        predicted_variance = predicted_variance - predicted**2
        true_variance = true_variance - true**2
    return _ratio(covariance, np.sqrt(predicted_variance * true_variance))


def _pearson(predictions: Array, truth: Array, weights: Array) -> Array:
    # Values are centred near 0 first: with large values the spread would be lost in the rounding of their squares.
    predicted = predictions - np.median(predictions, axis=1, keepdims=True)
    true = truth - np.median(truth)
    total, predicted_sum, true_sum = weights.sum(axis=1), _count(predicted, weights), _count(true, weights)
    predicted_square, true_square = total * _count(predicted**2, weights), total * _count(true**2, weights)
    predicted_spread, true_spread = predicted_square - predicted_sum**2, true_square - true_sum**2
    varies = (predicted_spread > ROUNDING * predicted_square) & (true_spread > ROUNDING * true_square)
    spread = np.sqrt(np.where(varies, predicted_spread * true_spread, 0))
    return _ratio(total * _count(predicted * true, weights) - predicted_sum * true_sum, spread)


def _spearman(predictions: Array, truth: Array, weights: Array) -> Array:
    return _pearson(pd.DataFrame(predictions).rank(axis=1).to_numpy(), pd.Series(truth).rank().to_numpy(), weights)


def _count(values: Array, weights: Array) -> Array:
    """Sum values [..., examples] over the drawn examples, weights [draws, examples]. Returns [..., draws]."""
    return np.asarray(values.astype(float) @ weights.T)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide, with 0 where the denominator is not positive."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


METRICS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "accuracy": lambda predictions, truth, weights: _ratio(_count(predictions == truth, weights), weights.sum(axis=1)),
    "f1": lambda predictions, truth, weights: _f1_of(1, predictions, truth, weights)[0],
    "macro_f1": _macro_f1,
    "matthews_correlation": _matthews_correlation,
    "pearson": _pearson,
    "spearman": _spearman,
}


def bootstrap(cells: Sequence[Array], truth: Array, metric: str, draws: int = 1000, seed: int = 0) -> list[Array]:
    """Score every cell on the same resampled examples.

    Args:
        cells: Predictions of each cell, [seeds, examples].
        truth: Right answers, [examples].
        metric: A key of METRICS.
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Scores of each cell, [seeds, draws].
    """
    scores = _score_resamples(np.concatenate(cells), truth, metric, draws, seed)
    return np.split(scores, np.cumsum([len(cell) for cell in cells])[:-1])


def _score_resamples(predictions: Array, truth: Array, metric: str, draws: int, seed: int) -> Array:
    """Score every row on the same resampled examples, one block of draws at a time. Returns [rows, draws]."""
    random, examples, scores = np.random.default_rng([seed, 0]), len(truth), []
    for count in np.diff([*range(0, draws, max(1, BLOCK // examples)), draws]):
        drawn = random.integers(examples, size=(count, examples)) + examples * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * examples).reshape(count, examples)
        scores.append(score_of(predictions, truth, metric, weights))
    return np.concatenate(scores, axis=1)


def expected_best(scores: Sequence[float], tried: int) -> tuple[float, float]:
    """Estimate the best score of `tried` draws with replacement from the scores of all rates.

    The best score is at most v with probability F(v)^tried, where F is the empirical distribution of the scores (Dodge
    et al. 2019, arXiv:1909.03004).

    Args:
        scores: Scores of all rates that were trained.
        tried: Number of draws.

    Returns:
        Mean and standard deviation of the best score.

    Raises:
        ValueError: There is no score, or no draw.
    """
    if not len(scores) or tried < 1:
        raise ValueError(f"best of {tried} draws from {len(scores)} scores: give at least one draw and one score")
    probabilities, ordered = np.diff((np.arange(len(scores) + 1) / len(scores)) ** tried), np.sort(scores)
    mean = float(probabilities @ ordered)
    return mean, float(np.sqrt(probabilities @ (ordered - mean) ** 2))


@dataclass(frozen=True)
class Ranks:
    """How methods rank over tasks (Demsar 2006).

    Attributes:
        methods: Names of the methods.
        mean: Mean rank of each method; 1 is best.
        critical_difference: Mean ranks that differ by less are not significantly different (Nemenyi test, 5%).
        p: p-value of Friedman's test of the hypothesis that all methods are equally good.
    """

    methods: tuple[str, ...]
    mean: tuple[float, ...]
    critical_difference: float
    p: float


def ranks(scores: pd.DataFrame) -> Ranks:
    """Rank methods on every task. Tied methods share the mean of their ranks.

    Args:
        scores: One row per task, one column per method; larger is better.

    Raises:
        ValueError: A score is missing, or there are fewer than five tasks or three methods, which the tests require.
    """
    from scipy.stats import friedmanchisquare, studentized_range

    tasks, methods = scores.shape
    if tasks < 5 or methods < 3:
        raise ValueError(f"mean ranks need at least 5 tasks and 3 methods; got {tasks} and {methods}")
    if missing := [f"{method} on {task}" for method in scores for task in scores.index[scores[method].isna()]]:
        raise ValueError(f"mean ranks need a score of every method on every task; missing: {', '.join(missing)}")
    task_ranks = scores.round(12).rank(axis=1, ascending=False)
    p = float(friedmanchisquare(*task_ranks.to_numpy().T).pvalue) if np.ptp(task_ranks, axis=1).any() else 1.0
    critical = studentized_range.ppf(0.95, methods, np.inf) * np.sqrt(methods * (methods + 1) / (12 * tasks))
    return Ranks(tuple(map(str, scores.columns)), tuple(task_ranks.mean().tolist()), float(critical), p)
