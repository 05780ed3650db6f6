"""Intervals of scores over examples and seeds: against scipy, simulations and hand-made predictions."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from simulated_tables import right_and_wrong

from bench.report.stats.variances import intervals, variances_of

Array = np.ndarray[Any, Any]


def interval(predictions: Array, truth: Array, metric: str = "accuracy") -> tuple[float, float]:
    (bounds,) = intervals([predictions], truth, metric)
    return bounds


def test_the_interval_of_one_seed_equals_scipy_over_examples() -> None:
    row = right_and_wrong(np.random.default_rng(0), 1, 1, 200)[0][0]
    expected = stats.ttest_1samp(row[0], 0).confidence_interval()
    assert interval(row, np.ones(200)) == pytest.approx(tuple(expected))


def test_the_interval_over_seeds_equals_scipy() -> None:
    """Each seed answers all examples alike."""
    scores = np.array([0, 1, 1, 1, 1])
    low, high = interval(scores[:, None] * np.ones(400), np.ones(400))
    expected = stats.ttest_1samp(scores, 0).confidence_interval()
    assert (low, high) == (pytest.approx(expected.low), 1)  # no accuracy is above 1


def test_an_interval_is_wider_if_seeds_differ() -> None:
    alike, apart = np.array([[1] * 9 + [0]] * 3), np.array([[1] * 10, [1] * 10, [1] * 7 + [0] * 3])
    assert alike.mean() == apart.mean()
    assert interval(apart, np.ones(10))[0] < interval(alike, np.ones(10))[0]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_estimated_variances_match_the_simulated_ones(metric: str) -> None:
    """Average over 300 tables: the mean's variance over examples, over seeds, and over both."""
    random, luck, estimates, means = np.random.default_rng(0), 0.02, [], []
    for _ in range(300):
        truth = random.integers(0, 2, 400)
        right, _ = right_and_wrong(random, 1, 4, 400, luck=luck)
        cell = np.where(right[0], truth, 1 - truth)
        estimates.append(variances_of([cell], truth, metric))
        means.append(estimates[-1].means[0])
    examples, seeds = (
        np.mean([getattr(estimate, name)[0] for estimate in estimates]) for name in ("over_examples", "over_seeds")
    )
    assert seeds == pytest.approx(luck**2 / 4, rel=0.2)
    assert examples + seeds == pytest.approx(np.var(means), rel=0.2)


def test_a_correlation_may_be_negative_and_an_accuracy_may_not() -> None:
    truth = np.array([0, 1] * 10)
    cell = np.array([1 - truth, 1 - truth, truth])
    assert interval(cell, truth, "matthews_correlation")[0] == -1
    assert interval(cell, truth)[0] == 0
