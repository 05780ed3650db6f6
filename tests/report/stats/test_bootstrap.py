"""What the report says of differences: by hand, beside other libraries, and where a simulation knows the truth."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from bench.config.enums import Metric
from bench.report.stats import bootstrap as statistics
from bench.report.stats.bootstrap import bootstrap, expected_best, ranks, score_of

Array = np.ndarray[Any, Any]
NAMES = [metric.value for metric in Metric]
OF_LABELS = ["accuracy", "f1", "macro_f1", "matthews_correlation"]
REFERENCES = {
    "accuracy": metrics.accuracy_score,
    "f1": lambda true, found: metrics.f1_score(true, found, labels=[1], average="macro", zero_division=0),
    "macro_f1": lambda true, found: metrics.f1_score(true, found, average="macro", zero_division=0),
    "matthews_correlation": metrics.matthews_corrcoef,
    "pearson": lambda true, found: stats.pearsonr(true, found).statistic,
    "spearman": lambda true, found: stats.spearmanr(true, found).statistic,
}


def sample_of(name: str, seeds: int = 3, examples: int = 200) -> tuple[Array, Array]:
    random = np.random.default_rng(3)
    if name in OF_LABELS:
        truth = random.integers(0, 3, examples)
        predictions = np.where(random.random((seeds, examples)) < 0.4, truth, random.integers(-1, 4, (seeds, examples)))
        truth[:5] = 5
        return predictions, truth
    truth = random.integers(0, 11, examples) / 2
    return (truth + 2 * random.normal(size=(seeds, examples))).round(1) + 1000, truth


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_of_a_task_is_that_of_scikit_learn_or_scipy(name: str) -> None:
    """Three labels, one that is never found, one that is never true, no answer (-1); for numbers ties, far from 0."""
    predictions, truth = sample_of(name)
    expected = [REFERENCES[name](truth, row) for row in predictions]
    assert score_of(predictions, truth, name) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "spearman"])
def test_an_example_that_is_drawn_twice_counts_as_two(name: str) -> None:
    predictions, truth = sample_of(name, examples=40)
    weights = np.random.default_rng(0).multinomial(60, np.full(40, 1 / 40), size=5)
    places = [np.repeat(np.arange(40), times) for times in weights]
    expected = [[REFERENCES[name](truth[some], row[some]) for some in places] for row in predictions]
    assert score_of(predictions, truth, name, weights) == pytest.approx(np.array(expected), abs=1e-9)


def test_spearman_under_weights_is_that_of_the_ranks_in_the_whole_part() -> None:
    predictions, truth = sample_of("spearman", examples=40)
    weights = np.random.default_rng(0).multinomial(60, np.full(40, 1 / 40), size=5)
    ranked = np.stack([stats.rankdata(row) for row in predictions])
    expected = score_of(ranked, stats.rankdata(truth), "pearson", weights)
    assert score_of(predictions, truth, "spearman", weights) == pytest.approx(expected, abs=1e-12)


def test_f1_by_hand() -> None:
    """Precision 1/2 and recall 1/2; with the first example twice and without the second, 2/3 and 1: 0.8."""
    truth, predictions = np.array([1, 1, 0, 0, 0]), np.array([[1, 0, 0, 0, 1]])
    assert score_of(predictions, truth, "f1", np.array([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1]])).tolist() == [[0.5, 0.8]]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_defined_counts_as_0(name: str) -> None:
    predictions, truth = np.array([[0, 0, 0, 0], [-1, -1, -1, -1]]), np.array([0, 1, 0, 1])
    known = {"accuracy": [0.5, 0], "macro_f1": [1 / 3, 0]}  # F1 of label 0 is 2/3, of label 1 nothing
    assert score_of(predictions, truth, name) == pytest.approx(known.get(name, [0, 0]))


def test_what_is_constant_in_a_draw_has_no_correlation() -> None:
    values = np.random.default_rng(0).random((2, 20))  # 0.1 seven times has a variance of 1e-17, not of 0
    assert not score_of(values[:1], values[1], "pearson", np.diag(np.arange(1, 21))).any()


def test_a_correlation_has_no_unit() -> None:
    predictions, truth = sample_of("pearson")
    expected = score_of(predictions, truth, "pearson")
    assert score_of(predictions / 1e4, truth / 1e4, "pearson") == pytest.approx(expected, abs=1e-9)


def test_a_metric_that_is_unknown_names_those_that_are() -> None:
    with pytest.raises(ValueError, match="metric 'bleu' is unknown; choose from accuracy, f1"):
        score_of(np.ones((1, 2)), np.ones(2), "bleu")


def test_draws_depend_on_their_seed_alone_and_not_on_how_many_are_scored_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictions, truth = sample_of("f1", seeds=1)
    (first,), (other,) = (bootstrap([predictions], truth, "f1", 50, seed) for seed in (0, 1))
    assert not np.array_equal(first, other)
    monkeypatch.setattr(statistics, "BLOCK", 7 * len(truth))
    assert bootstrap([predictions], truth, "f1", 50)[0] == pytest.approx(first)


def test_the_best_of_two_draws_by_hand() -> None:
    """From 1, 2, 3 the best of two is 1 in 1 of 9 cases, 2 in 3 and 3 in 5: mean 22/9, variance 58/9 - (22/9)^2."""
    assert expected_best([3, 1, 2], 2) == pytest.approx((22 / 9, (38 / 81) ** 0.5))
    assert expected_best([3, 1, 2], 1) == pytest.approx((2, (2 / 3) ** 0.5))
    assert expected_best([0.7], 5) == (0.7, 0)


def test_the_best_of_some_draws_is_that_of_all_that_may_be_drawn() -> None:
    scores = [0.5, 0.9, 0.5, 0.7]
    best = [max(drawn) for drawn in product(scores, repeat=3)]
    assert expected_best(scores, 3) == pytest.approx((np.mean(best), np.std(best)))


@pytest.mark.parametrize(("scores", "tried"), [([], 1), ([0.5], 0)])
def test_nothing_drawn_has_no_best(scores: list[float], tried: int) -> None:
    with pytest.raises(ValueError, match=f"best of {tried} draws from {len(scores)} scores"):
        expected_best(scores, tried)


def test_ranks_by_hand() -> None:
    """The order is always the same. Friedman: 12 * 5 / (3 * 4) (1 + 0 + 1) = 10 with 2 degrees of freedom, exp(-5).

    Nemenyi: 2.343 for three methods (Demsar 2006, table 5), times sqrt(3 * 4 / (6 * 5)).
    """
    rows = np.random.default_rng(0).random((5, 1)) + np.array([0.2, 0.3, 0.1])
    found = ranks(pd.DataFrame(rows, columns=["lora", "full", "ia3"]))
    assert (found.methods, found.mean) == (("lora", "full", "ia3"), (2, 1, 3))
    assert found.p == pytest.approx(np.exp(-5))
    assert found.critical_difference == pytest.approx(2.343 * (12 / 30) ** 0.5, abs=1e-3)


def test_ties_share_their_ranks() -> None:
    """Of 0.3 and 0.1 + 0.2 neither is better."""
    rows = [[0.3, 0.1 + 0.2, 0.2]] * 4 + [[0.1, 0.2, 0.3]]
    assert ranks(pd.DataFrame(rows)).mean == pytest.approx((1.8, 1.6, 2.6))
    assert ranks(pd.DataFrame(np.full((5, 3), 0.5))).p == 1


def test_too_few_to_rank_says_what_is_needed() -> None:
    scores = pd.DataFrame(np.eye(5, 4), index=list("abcde"), columns=["full", "lora", "ia3", "head"])
    with pytest.raises(ValueError, match="at least 5 tasks and 3 methods; got 4 and 4"):
        ranks(scores[:4])
    with pytest.raises(ValueError, match="at least 5 tasks and 3 methods; got 5 and 2"):
        ranks(scores[["full", "lora"]])
    with pytest.raises(ValueError, match="missing: lora on b, ia3 on c"):
        ranks(scores.mask([[(row, column) in {(1, 1), (2, 2)} for column in range(4)] for row in range(5)]))
