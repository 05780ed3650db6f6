"""Pairwise tests of cells: against hand-computed values, scipy, and simulations of cells that do not differ."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from simulated_tables import right_and_wrong

from bench.config.enums import Metric
from bench.report.stats.pairwise import Pairs, pairs_of
from bench.report.stats.seed_variances import draw_variances
from bench.report.stats.variances import LEVEL, variances_of

Array = np.ndarray[Any, Any]
NAMES = [metric.value for metric in Metric]


def right(random: np.random.Generator, cells: int, seeds: int, examples: int, **how: Any) -> Array:
    """Return simulated answers to a truth of all ones, 1 if right and 0 if not: [cells, seeds, examples]."""
    return right_and_wrong(random, cells, seeds, examples, **how)[0]


def judged(cells: Any, truth: Array, metric: str = "accuracy") -> Pairs:
    return pairs_of({str(place): cell for place, cell in enumerate(cells)}, truth, metric)


def p_of(cells: Any, truth: Array, metric: str = "accuracy") -> Array:
    return judged(cells, truth, metric).p


def tied(cells: Any, truth: Array, metric: str = "accuracy") -> list[bool]:
    names = judged(cells, truth, metric).tied()
    return [str(place) in names for place in range(len(cells))]


def test_seeds_that_answer_alike_give_the_paired_t_test_of_scipy() -> None:
    """Only the examples are random. The p-value comes from 1,999 draws."""
    first, second = (np.repeat(row, 2, axis=0) for row in right(np.random.default_rng(0), 2, 1, 300, luck=0.05))
    pairs = judged([first, second], np.ones(300))
    expected = stats.ttest_rel(first[0], second[0])
    assert pairs.error[0, 1] == pytest.approx((first[0] - second[0]).std(ddof=1) / 300**0.5, rel=0.01)
    assert pairs.p[0, 1] == pytest.approx(expected.pvalue, abs=0.03)
    assert pairs.between("0", "1").interval == pytest.approx(tuple(expected.confidence_interval()), rel=0.05)


def test_examples_answered_alike_give_nearly_the_t_test_of_scipy() -> None:
    """Only the seeds are random. Two cells tell little about each other, so the intervals are slightly wider."""
    first, second = np.array([[1], [1], [1], [1], [0], [1]]) * np.ones(50), np.array([[0], [1], [0], [0], [0], [0]])
    difference = judged([first, second * np.ones(50)], np.ones(50)).between("0", "1")
    expected = stats.ttest_ind(first[:, 0], second[:, 0])
    assert difference.p is not None
    assert difference.interval is not None
    assert expected.pvalue <= difference.p <= expected.pvalue + 0.03
    width = np.ptp(expected.confidence_interval())
    assert width < np.ptp(difference.interval) < 1.25 * width


def test_a_cell_of_more_variable_seeds_has_larger_errors() -> None:
    random = np.random.default_rng(0)
    calm, wild = right(random, 9, 5, 2000, luck=0.002), right(random, 1, 5, 2000, luck=0.08)
    error = judged([*calm, *wild], np.ones(2000)).error
    assert error[9, :9].min() > 2 * error[:9, :9].max()


def test_cells_of_equal_variance_share_degrees_of_freedom() -> None:
    """Ten cells of three seeds determine the variance better than one cell: the posterior is narrower."""
    observed, random = np.full(10, 1e-4), np.random.default_rng(0)
    ten, single = (
        draw_variances(variances, np.full(len(variances), 2), 4000, random)[:, 0]
        for variances in (observed, observed[:1])
    )
    assert np.ptp(np.quantile(np.log(ten), (0.05, 0.95))) < 0.7 * np.ptp(np.quantile(np.log(single), (0.05, 0.95)))
    assert np.median(ten) == pytest.approx(1e-4, rel=0.25)


def test_the_noise_of_examples_is_counted_once() -> None:
    """Seeds of equal score that differ only in single answers add no variance: only the examples are uncertain.

    In the first cell, seed 0 has the first two of 4 examples right and seed 1 the last two. Both score 1/2, so nothing
    varies over seeds or over the means of examples. In the second cell, each seed has one example right: variance
    (1/4 - 1/16) * 4/3 / 4.
    """
    first, second = np.array([[1, 1, 0, 0], [0, 0, 1, 1]]), np.array([[1, 0, 0, 0], [1, 0, 0, 0]])
    variances = variances_of([first, second], np.ones(4), "accuracy")
    assert variances.of_differences[0, 1] == pytest.approx((1 / 4 - 1 / 16) * (4 / 3) / 4)
    assert variances.over_seeds.tolist() == [0, 0]


def test_with_one_seed_there_is_no_test_and_the_interval_is_over_examples() -> None:
    """The variance over seeds of other cells does not apply: their seeds are not this cell's."""
    several, single = right(np.random.default_rng(0), 2, 3, 300, luck=0.05)
    pairs = pairs_of({"several": several, "one": single[:1], "other": several[:, ::-1]}, np.ones(300), "accuracy")
    difference = pairs.between("several", "one")
    assert difference.p is None
    examples = stats.ttest_rel(several.mean(axis=0), single[0]).confidence_interval()
    assert difference.interval == pytest.approx(tuple(examples), rel=1e-9)
    assert difference.cells == 2
    assert pairs.between("several", "other").p is not None
    assert np.isnan(pairs.p[pairs.names.index("one")]).all()


def test_cells_of_one_seed_are_never_tied() -> None:
    rows = right(np.random.default_rng(0), 2, 1, 300)
    pairs = pairs_of({"a": rows[0], "b": rows[1]}, np.ones(300), "accuracy")
    assert pairs.tied() == {max(("a", "b"), key=lambda name: rows["ab".index(name)].mean())}


def test_p_values_and_intervals_hold_for_the_whole_table() -> None:
    """The best and the worst of 20 equal cells differ by more than two cells chosen in advance."""
    rows = right(np.random.default_rng(5), 20, 3, 300, luck=0.01)
    pairs = judged(rows, np.ones(300))
    order = pairs.variances.means.argsort()
    best, worst = pairs.names[order[-1]], pairs.names[order[0]]
    alone = pairs_of({name: rows[int(name)] for name in (best, worst)}, np.ones(300), "accuracy").between(best, worst)
    among = pairs.between(best, worst)
    assert (alone.cells, among.cells) == (2, 20)
    assert alone.p < 0.05 < among.p
    assert alone.interval[0] > 0 > among.interval[0]


def test_intervals_verdicts_and_p_values_never_contradict_each_other() -> None:
    skills = np.linspace(0.86, 0.90, 30)
    pairs = judged(right(np.random.default_rng(1), 30, 3, 4000, skill=skills, luck=0.003), np.ones(4000))
    apart = 0
    for first, second in zip(*np.triu_indices(30, 1), strict=True):
        difference = pairs.between(pairs.names[first], pairs.names[second])
        low, high = difference.interval
        assert (difference.p <= LEVEL) == (low > 0 or high < 0)
        apart += difference.p <= LEVEL
    assert 20 < apart < 415


def test_a_part_of_a_table_has_the_verdicts_of_the_whole() -> None:
    rows = right(np.random.default_rng(1), 6, 3, 2000, skill=np.linspace(0.80, 0.90, 6))
    pairs = judged(rows, np.ones(2000))
    for shown in (("0", "1"), ("2", "3"), ("1", "4", "5")):
        best = max(shown, key=lambda name: pairs.variances.means[int(name)])
        assert pairs.tied(shown) == {name for name in shown if name == best or pairs.between(best, name).p > LEVEL}
    assert len(pairs.tied(("0", "1"))) == 2
    assert len(pairs.tied()) < 6


def test_cells_that_answer_alike_are_tied_without_a_warning() -> None:
    row = right(np.random.default_rng(0), 1, 3, 200, luck=0.02)[0]
    assert p_of([row, row, row[:, ::-1]], np.ones(200)).min() > 0.5
    assert tied([row[:1].repeat(3, axis=0)] * 3, np.ones(200)) == [True] * 3


def test_p_values_are_repeatable_in_any_order_of_the_named_cells() -> None:
    rows = right(np.random.default_rng(2), 5, 3, 300, luck=0.01)
    cells = {str(place): row for place, row in enumerate(rows)}
    reordered = pairs_of(dict(reversed(cells.items())), np.ones(300), "accuracy")
    assert np.array_equal(reordered.p, pairs_of(cells, np.ones(300), "accuracy").p)


def test_a_paired_bootstrap_is_near_a_hand_computed_error() -> None:
    """With two labels and equal errors of both kinds, macro-F1 equals the accuracy to first order.

    20 of 100 answers are right only in the first cell and 8 only in the second: 0.12 over
    sqrt((0.28 - 0.12^2) / 100) = 0.0515. Both seeds answer alike.
    """
    truth = np.arange(100) % 2
    first, second = np.ones((2, 2, 100))
    second[:, :20], first[:, 20:28] = 0, 0
    cells = {name: np.where(right, truth, 1 - truth) for name, right in (("one", first), ("other", second))}
    pairs = pairs_of(cells, truth, "macro_f1")
    assert pairs.error[0, 1] == pytest.approx(0.0515, rel=0.08)
    assert pairs.p[0, 1] == pytest.approx(0.0199, abs=0.015)


@pytest.mark.parametrize("name", NAMES)
def test_identical_predictions_have_a_p_value_of_1(name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 60)
    predictions = np.repeat(np.where(random.random((1, 60)) < 0.8, truth, 1 - truth), 3, axis=0)
    assert p_of([predictions, predictions.copy()], truth, name)[0, 1] == 1


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_symmetric_and_do_not_depend_on_their_order(name: str) -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 2, 200)
    skill = (0.9, 0.88, 0.86, 0.84, 0.82)
    answers = np.concatenate([right(random, 1, 3, 200, skill=accuracy, luck=0.02) for accuracy in skill])
    cells, order = np.where(answers, truth, 1 - truth), [3, 0, 4, 2, 1]
    p_values = p_of(cells, truth, name)
    assert np.array_equal(p_values, p_values.T)
    assert p_values.diagonal().tolist() == [1] * 5
    assert 0 < p_values.min() < np.median(p_values) < 1
    assert p_of(cells[order], truth, name) == pytest.approx(p_values[np.ix_(order, order)], abs=0.05)


def test_a_cell_is_tied_if_it_is_tied_with_any_of_equally_good_cells() -> None:
    """The third cell has the first's 10 errors and 12 more. Against the second, with 10 others, it is 22 to 10."""
    first, second, third = (np.ones((2, 60), int) for _ in range(3))
    first[:, :10], second[:, 30:40], third[:, :22] = 0, 0, 0
    assert tied([first, third], np.ones(60)) == [True, False]
    assert tied([first, second, third], np.ones(60)) == [True, True, True]
    assert tied([second, first, third], np.ones(60)) == [True, True, True]


def test_a_single_cell_is_the_best() -> None:
    assert tied([np.zeros((2, 5))], np.ones(5)) == [True]
    assert tied([np.zeros((2, 5))], np.ones(5), "macro_f1") == [True]


@pytest.mark.parametrize("name", NAMES)
def test_a_clearly_worse_cell_is_never_tied_at_any_position(name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 400)
    answers = right(random, 5, 3, 400)
    answers[3] = right(random, 1, 3, 400, skill=0.75)[0]
    cells = np.where(answers, truth, 1 - truth)
    assert tied(cells, truth, name) == [True, True, True, False, True]
    assert tied(cells[[3, 0, 1, 2, 4]], truth, name) == [False, True, True, True, True]


def test_a_bootstrap_seldom_separates_equal_cells() -> None:
    random, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        truth = random.integers(0, 2, 200)
        cells = np.where(right(random, 4, 3, 200, luck=0.01), truth, 1 - truth)
        wrong += not all(tied(cells, truth, "matthews_correlation"))
    assert wrong <= 0.05 * 200
