"""Scores, bootstrap draws, expected bests and ranks: against hand-computed values and other libraries."""

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
    "f1": lambda true, predicted: metrics.f1_score(true, predicted, labels=[1], average="macro", zero_division=0),
    "macro_f1": lambda true, predicted: metrics.f1_score(true, predicted, average="macro", zero_division=0),
    "matthews_correlation": metrics.matthews_corrcoef,
    "pearson": lambda true, predicted: stats.pearsonr(true, predicted).statistic,
    "spearman": lambda true, predicted: stats.spearmanr(true, predicted).statistic,
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
def test_every_task_metric_equals_scikit_learn_or_scipy(name: str) -> None:
    """Labels include one never predicted, one never true and no answer (-1). Numbers have ties and lie far from 0."""
    predictions, truth = sample_of(name)
    expected = [REFERENCES[name](truth, row) for row in predictions]
    assert score_of(predictions, truth, name) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "spearman"])
def test_an_example_drawn_twice_counts_twice(name: str) -> None:
    predictions, truth = sample_of(name, examples=40)
    weights = np.random.default_rng(0).multinomial(60, np.full(40, 1 / 40), size=5)
    places = [np.repeat(np.arange(40), times) for times in weights]
    expected = [[REFERENCES[name](truth[drawn], row[drawn]) for drawn in places] for row in predictions]
    assert score_of(predictions, truth, name, weights) == pytest.approx(np.array(expected), abs=1e-9)


def test_weighted_spearman_uses_the_ranks_in_the_whole_part() -> None:
    predictions, truth = sample_of("spearman", examples=40)
    weights = np.random.default_rng(0).multinomial(60, np.full(40, 1 / 40), size=5)
    ranked = np.stack([stats.rankdata(row) for row in predictions])
    expected = score_of(ranked, stats.rankdata(truth), "pearson", weights)
    assert score_of(predictions, truth, "spearman", weights) == pytest.approx(expected, abs=1e-12)


def test_f1_equals_a_hand_computed_value() -> None:
    """Precision and recall are 1/2. With the first example twice and without the second, they are 2/3 and 1: 0.8."""
    truth, predictions = np.array([1, 1, 0, 0, 0]), np.array([[1, 0, 0, 0, 1]])
    assert score_of(predictions, truth, "f1", np.array([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1]])).tolist() == [[0.5, 0.8]]


@pytest.mark.parametrize("name", NAMES)
def test_undefined_scores_count_as_0(name: str) -> None:
    predictions, truth = np.array([[0, 0, 0, 0], [-1, -1, -1, -1]]), np.array([0, 1, 0, 1])
    known = {"accuracy": [0.5, 0], "macro_f1": [1 / 3, 0]}  # F1 is 2/3 for label 0 and 0 for label 1
    assert score_of(predictions, truth, name) == pytest.approx(known.get(name, [0, 0]))


def test_constant_values_in_a_draw_have_no_correlation() -> None:
    values = np.random.default_rng(0).random((2, 20))  # seven times 0.1 has a variance of 1e-17, not 0
    assert not score_of(values[:1], values[1], "pearson", np.diag(np.arange(1, 21))).any()


def test_a_correlation_does_not_depend_on_the_unit() -> None:
    predictions, truth = sample_of("pearson")
    expected = score_of(predictions, truth, "pearson")
    assert score_of(predictions / 1e4, truth / 1e4, "pearson") == pytest.approx(expected, abs=1e-9)


def test_an_unknown_metric_is_rejected_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="metric 'bleu' is unknown; choose from accuracy, f1"):
        score_of(np.ones((1, 2)), np.ones(2), "bleu")


def test_draws_depend_only_on_their_seed_and_not_on_the_block_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictions, truth = sample_of("f1", seeds=1)
    (first,), (other,) = (bootstrap([predictions], truth, "f1", 50, seed) for seed in (0, 1))
    assert not np.array_equal(first, other)
    monkeypatch.setattr(statistics, "BLOCK", 7 * len(truth))
    assert bootstrap([predictions], truth, "f1", 50)[0] == pytest.approx(first)


def test_the_best_of_two_draws_equals_a_hand_computed_value() -> None:
    """The best of two draws from 1, 2, 3 is 1 in 1 of 9 cases, 2 in 3, 3 in 5: mean 22/9, variance 58/9 - (22/9)^2."""
    assert expected_best([3, 1, 2], 2) == pytest.approx((22 / 9, (38 / 81) ** 0.5))
    assert expected_best([3, 1, 2], 1) == pytest.approx((2, (2 / 3) ** 0.5))
    assert expected_best([0.7], 5) == (0.7, 0)


def test_the_best_of_several_draws_equals_an_enumeration() -> None:
    scores = [0.5, 0.9, 0.5, 0.7]
    best = [max(drawn) for drawn in product(scores, repeat=3)]
    assert expected_best(scores, 3) == pytest.approx((np.mean(best), np.std(best)))


@pytest.mark.parametrize(("scores", "tried"), [([], 1), ([0.5], 0)])
def test_an_expected_best_needs_scores_and_draws(scores: list[float], tried: int) -> None:
    with pytest.raises(ValueError, match=f"best of {tried} draws from {len(scores)} scores"):
        expected_best(scores, tried)


def test_ranks_equal_hand_computed_values() -> None:
    """All tasks rank the methods alike. Friedman: 12 * 5 / (3 * 4) (1 + 0 + 1) = 10 with 2 degrees of freedom, exp(-5).

    Nemenyi: 2.343 for three methods (Demsar 2006, table 5), times sqrt(3 * 4 / (6 * 5)).
    """
    rows = np.random.default_rng(0).random((5, 1)) + np.array([0.2, 0.3, 0.1])
    ranking = ranks(pd.DataFrame(rows, columns=["lora", "full", "ia3"]))
    assert (ranking.methods, ranking.mean) == (("lora", "full", "ia3"), (2, 1, 3))
    assert ranking.p == pytest.approx(np.exp(-5))
    assert ranking.critical_difference == pytest.approx(2.343 * (12 / 30) ** 0.5, abs=1e-3)


def test_ties_share_their_ranks() -> None:
    """0.3 and 0.1 + 0.2 are a tie."""
    rows = [[0.3, 0.1 + 0.2, 0.2]] * 4 + [[0.1, 0.2, 0.3]]
    assert ranks(pd.DataFrame(rows)).mean == pytest.approx((1.8, 1.6, 2.6))
    assert ranks(pd.DataFrame(np.full((5, 3), 0.5))).p == 1


def test_ranks_reject_too_few_tasks_or_methods_and_missing_scores() -> None:
    scores = pd.DataFrame(np.eye(5, 4), index=list("abcde"), columns=["full", "lora", "ia3", "head"])
    with pytest.raises(ValueError, match="at least 5 tasks and 3 methods; got 4 and 4"):
        ranks(scores[:4])
    with pytest.raises(ValueError, match="at least 5 tasks and 3 methods; got 5 and 2"):
        ranks(scores[["full", "lora"]])
    with pytest.raises(ValueError, match="missing: lora on b, ia3 on c"):
        ranks(scores.mask([[(row, column) in {(1, 1), (2, 2)} for column in range(4)] for row in range(5)]))
