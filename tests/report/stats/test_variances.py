"""Intervals of scores: by hand, beside scipy, and what they are over."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from simulated_tables import right_and_wrong

from bench.report.stats.variances import intervals, variances_of

Array = np.ndarray[Any, Any]


def interval(predictions: Array, truth: Array, metric: str = "accuracy") -> tuple[float, float]:
    (found,) = intervals([predictions], truth, metric)
    return found


def test_the_interval_of_one_seed_is_that_of_scipy_over_examples() -> None:
    row = right_and_wrong(np.random.default_rng(0), 1, 1, 200)[0][0]
    expected = stats.ttest_1samp(row[0], 0).confidence_interval()
    assert interval(row, np.ones(200)) == pytest.approx(tuple(expected))


def test_the_interval_of_seeds_alone_is_that_of_scipy() -> None:
    """Every example is answered alike."""
    scores = np.array([0, 1, 1, 1, 1])
    low, high = interval(scores[:, None] * np.ones(400), np.ones(400))
    expected = stats.ttest_1samp(scores, 0).confidence_interval()
    assert (low, high) == (pytest.approx(expected.low), 1)  # no accuracy is above 1


def test_an_interval_knows_that_seeds_differ() -> None:
    alike, apart = np.array([[1] * 9 + [0]] * 3), np.array([[1] * 10, [1] * 10, [1] * 7 + [0] * 3])
    assert alike.mean() == apart.mean()
    assert interval(apart, np.ones(10))[0] < interval(alike, np.ones(10))[0]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_variances_of_examples_and_seeds_are_those_that_made_the_scores(metric: str) -> None:
    """Means over 300 tables: of the mean's variance over examples, of seeds, and of what both make of the mean."""
    random, luck, found, means = np.random.default_rng(0), 0.02, [], []
    for _ in range(300):
        truth = random.integers(0, 2, 400)
        right, _ = right_and_wrong(random, 1, 4, 400, luck=luck)
        cell = np.where(right[0], truth, 1 - truth)
        found.append(variances_of([cell], truth, metric))
        means.append(found[-1].means[0])
    examples, seeds = (np.mean([getattr(one, name)[0] for one in found]) for name in ("over_examples", "over_seeds"))
    assert seeds == pytest.approx(luck**2 / 4, rel=0.2)
    assert examples + seeds == pytest.approx(np.var(means), rel=0.2)


def test_a_correlation_may_be_negative_and_an_accuracy_may_not() -> None:
    truth = np.array([0, 1] * 10)
    cell = np.array([1 - truth, 1 - truth, truth])
    assert interval(cell, truth, "matthews_correlation")[0] == -1
    assert interval(cell, truth)[0] == 0
