"""What the report says of differences: by hand, beside other libraries, and where a simulation knows the truth."""

import gc
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar

from bench.choices import Metric
from bench.report import statistics
from bench.report.statistics import all_pairs, expected_best, holm, interval, p_value, ranks, score_of, tied

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


def right_and_wrong(
    random: np.random.Generator, cells: int, seeds: int, examples: int, *, skill: float = 0.88, luck: float = 0
) -> Array:
    """Which answers are right, 1 or 0: [cells, seeds, examples], for a truth of ones.

    Examples are hard or easy to all cells alike. skill: the expected accuracy; luck: its standard deviation over seeds.
    """
    level = ndtri(skill + luck * random.normal(size=(cells, seeds, 1))) * np.hypot(1, 1.5)
    return (random.random((cells, seeds, examples)) < ndtr(level + 1.5 * random.normal(size=examples))).astype(int)


def against(*pairs: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Two cells of as many seeds as pairs, and their truth: (n, m) says that only one has n examples right, other m."""
    one, other = np.ones((len(pairs), 20), int), np.ones((len(pairs), 20), int)
    for seed, (only_one, only_other) in enumerate(pairs):
        other[seed, :only_one] = 0
        one[seed, only_one : only_one + only_other] = 0
    return one, other, np.ones(20, int)


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


def test_an_interval_by_hand() -> None:
    """Three of four are right: as binomial numbers 0 comes with 0.4%, 0 or 1 with 5.1%, and all four with 32%."""
    assert interval(np.array([[1, 1, 1, 0]]), np.ones(4), "accuracy") == (0.25, 1)
    assert interval(np.ones((3, 4)), np.ones(4), "accuracy") == (1, 1)


def test_an_interval_knows_that_seeds_differ() -> None:
    """Whatever the examples, a draw of three seeds of which one fails holds only the failed one or none of it."""
    assert interval(np.array([[1] * 9, [1] * 9, [0] * 9]), np.ones(9), "accuracy") == (0, 1)


def test_the_spread_over_seeds_is_not_understated() -> None:
    """Scores 0, 0 and 3: the variance over n - 1 is 3, that of their mean 1; draws of three would have 2/3."""
    drawn = np.array([0, 0, 3]) @ statistics._shares(3, 100_000, 0)
    assert (drawn.mean(), drawn.var()) == pytest.approx((1, 1), abs=0.02)
    assert not np.array_equal(statistics._shares(3, 20, 0), statistics._shares(3, 20, 1))


def test_an_interval_depends_on_the_seed_of_its_draws_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, truth = sample_of("f1", seeds=1)
    first = interval(predictions, truth, "f1", draws=50)
    assert first == interval(predictions, truth, "f1", draws=50) != interval(predictions, truth, "f1", draws=50, seed=1)
    monkeypatch.setattr(statistics, "BLOCK", 7 * len(truth))
    assert first == pytest.approx(interval(predictions, truth, "f1", draws=50))


def test_a_95_percent_interval_holds_the_truth_95_times_in_100() -> None:
    fresh = [right_and_wrong(np.random.default_rng(draw), 1, 1, 300)[0] for draw in range(1000)]
    bounds = [interval(row, np.ones(300), "accuracy", draws=400) for row in fresh]
    assert 0.92 <= np.mean([low <= 0.88 <= high for low, high in bounds]) <= 0.98


def test_mcnemar_by_hand() -> None:
    """All of 5: 2 / 2^5. One of 7: 2 (1 + 7) / 2^7. Of several seeds twice the median, of two twice the mean."""
    assert p_value(*against((5, 0)), "accuracy") == pytest.approx(0.0625)
    assert p_value(*against((1, 6)), "accuracy") == pytest.approx(0.125)
    assert p_value(*against((5, 0), (2, 2), (6, 1)), "accuracy") == pytest.approx(0.25)
    assert p_value(*against((5, 0), (6, 1)), "accuracy") == pytest.approx(0.1875)


def test_mcnemar_is_that_of_statsmodels() -> None:
    for seed in range(20):
        one, other = right_and_wrong(np.random.default_rng(seed), 2, 1, 300, luck=0.05)
        table = [[np.sum((one == a) & (other == b)) for b in (1, 0)] for a in (1, 0)]
        expected = mcnemar(table, exact=True).pvalue
        assert p_value(one, other, np.ones(300), "accuracy") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_differs_p_is_1(name: str) -> None:
    predictions, truth = sample_of(name)
    assert p_value(predictions, predictions.copy(), truth, name) == 1


@pytest.mark.parametrize("name", NAMES)
def test_of_different_numbers_of_seeds_the_common_ones_count(name: str) -> None:
    predictions, truth = sample_of(name, seeds=6)
    full, short, one = predictions[:3], predictions[3:5], predictions[5:]
    found = all_pairs([full, short, one], truth, name)
    assert found[0, 1] == pytest.approx(p_value(full[:2], short, truth, name))
    assert found[0, 2] == pytest.approx(p_value(full[:1], one, truth, name))
    assert found[1, 2] == pytest.approx(p_value(short[:1], one, truth, name))


def test_a_paired_bootstrap_by_hand() -> None:
    """Of 100 examples 20 are right in one only and 8 in the other: 0.12 over sqrt((0.28 - 0.12^2) / 100) is 2.33.

    Of seeds that differ by 1, 1 and -1 on all examples: 1/3 over sqrt((4/3) / 3) is 0.5.
    """
    one, other = np.ones((1, 100)), np.ones((1, 100))
    other[0, :20], one[0, 20:28] = 0, 0
    assert statistics._resampled([one, other], np.ones(100), "accuracy")[0, 1] == pytest.approx(0.0199, abs=0.004)
    seeds = np.array([[1] * 9, [1] * 9, [0] * 9])
    assert statistics._resampled([seeds, 1 - seeds], np.ones(9), "accuracy")[0, 1] == pytest.approx(0.617, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_symmetric_and_do_not_depend_on_their_order(name: str) -> None:
    predictions, truth = sample_of(name, seeds=15)
    cells, order = predictions.reshape(5, 3, -1), [3, 0, 4, 2, 1]
    found = all_pairs(list(cells), truth, name)
    assert np.array_equal(found, found.T)
    assert found.diagonal().tolist() == [1] * 5
    assert 0 < found.min() < np.median(found) <= 1
    assert all_pairs(list(cells[order]), truth, name) == pytest.approx(found[np.ix_(order, order)], rel=1e-6)
    assert p_value(cells[1], cells[2], truth, name) == pytest.approx(found[1, 2], rel=1e-6)


def test_holm_by_hand() -> None:
    """Of four the least counts 4 times, then 3 and 2 times and once, and none may fall below one before it."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])
    assert holm(np.array([])).tolist() == []


def test_a_tie_is_corrected_for_all_pairs_and_not_only_for_those_with_the_best() -> None:
    """The third wins one example and loses 9 to the first: 2 (1 + 10) / 2^10 = 0.0215, which is 0.043 for two pairs
    and 0.064 for three. Where it wins none, 2 / 2^9 = 0.0039 is 0.012.
    """
    truth = np.ones(30, int)
    best, second, third = np.ones((3, 1, 30), int)
    best[0, 0], second[0, :2], third[0, 1:10] = 0, 0, 0
    assert tied([best, second, third], truth, "accuracy") == [True, True, True]
    assert tied([best, second, third], truth, "accuracy", level=0.1) == [True, True, False]
    third[0, 0] = 0
    assert tied([third, best, second], truth, "accuracy") == [False, True, True]


def test_of_two_that_are_equally_good_either_makes_a_tie() -> None:
    """Both have 10 wrong. The third has those of the first and 12 more, 2 / 2^12; with the second it is 22 to 10."""
    first, second, third = np.ones((3, 1, 60), int)
    first[0, :10], second[0, 30:40], third[0, :22] = 0, 0, 0
    assert tied([first, third], np.ones(60), "accuracy") == [True, False]
    assert tied([first, second, third], np.ones(60), "accuracy") == [True, True, True]
    assert tied([second, first, third], np.ones(60), "accuracy") == [True, True, True]


def test_one_cell_is_the_best() -> None:
    assert tied([np.zeros((2, 5))], np.ones(5), "accuracy") == [True]
    assert tied([], np.ones(5), "accuracy") == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_clearly_worse_is_found_wherever_it_stands(name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 400)
    right = right_and_wrong(random, 5, 3, 400)
    right[3] = right_and_wrong(random, 1, 3, 400, skill=0.75)[0]
    cells = np.where(right, truth, 1 - truth)
    assert tied(list(cells), truth, name) == [True, True, True, False, True]
    assert tied(list(cells[[3, 0, 1, 2, 4]]), truth, name) == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("seeds", "examples", "luck"),
    [(1, 300, 0), (3, 300, 0), (3, 872, 0.01)],
    ids=["one seed", "alike", "luck of seeds"],
)
def test_cells_of_equal_skill_are_seldom_told_apart(
    seeds: int, examples: int, luck: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 5 times in 100 a table of six equals may name one that is worse than the best."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels does it in every correction, for 20 ms each
    random, truth = np.random.default_rng(0), np.ones(examples, int)
    tables = (right_and_wrong(random, 6, seeds, examples, luck=luck) for _ in range(2000))
    wrong = np.mean([not all(tied(list(cells), truth, "accuracy")) for cells in tables])
    assert wrong <= 0.05


def test_equal_cells_are_seldom_told_apart_by_a_bootstrap_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)
    random, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        truth = random.integers(0, 2, 200)
        cells = np.where(right_and_wrong(random, 4, 3, 200, luck=0.01), truth, 1 - truth)
        wrong += not all(tied(list(cells), truth, "matthews_correlation"))
    assert wrong <= 0.05 * 200


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
