"""Which cells are told apart: by hand, beside other libraries, and where a simulation knows that nothing differs."""

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
    """Which answers are right, 1 or 0, for a truth of ones: [cells, seeds, examples]."""
    return right_and_wrong(random, cells, seeds, examples, **how)[0]


def judged(cells: Any, truth: Array, metric: str = "accuracy") -> Pairs:
    return pairs_of({str(place): cell for place, cell in enumerate(cells)}, truth, metric)


def p_of(cells: Any, truth: Array, metric: str = "accuracy") -> Array:
    return judged(cells, truth, metric).p


def tied(cells: Any, truth: Array, metric: str = "accuracy") -> list[bool]:
    found = judged(cells, truth, metric).tied()
    return [str(place) in found for place in range(len(cells))]


def test_of_two_cells_whose_seeds_answer_alike_the_test_is_the_paired_t_test_of_scipy() -> None:
    """Only the examples are left to chance; the p-value is that of 1,999 draws."""
    one, other = (np.repeat(row, 2, axis=0) for row in right(np.random.default_rng(0), 2, 1, 300, luck=0.05))
    found = judged([one, other], np.ones(300))
    expected = stats.ttest_rel(one[0], other[0])
    assert found.error[0, 1] == pytest.approx((one[0] - other[0]).std(ddof=1) / 300**0.5, rel=0.01)
    assert found.p[0, 1] == pytest.approx(expected.pvalue, abs=0.03)
    assert found.between("0", "1").interval == pytest.approx(tuple(expected.confidence_interval()), rel=0.05)


def test_of_two_cells_that_answer_every_example_alike_the_test_is_near_the_t_test_of_scipy() -> None:
    """Only the seeds are left to chance. Two cells say little about each other, so the test is a little wider."""
    one, other = np.array([[1], [1], [1], [1], [0], [1]]) * np.ones(50), np.array([[0], [1], [0], [0], [0], [0]])
    found = judged([one, other * np.ones(50)], np.ones(50)).between("0", "1")
    expected = stats.ttest_ind(one[:, 0], other[:, 0])
    assert found.p is not None
    assert found.interval is not None
    assert expected.pvalue <= found.p <= expected.pvalue + 0.03
    width = np.ptp(expected.confidence_interval())
    assert width < np.ptp(found.interval) < 1.25 * width


def test_a_cell_whose_seeds_differ_more_than_those_of_its_neighbours_has_wider_intervals() -> None:
    random = np.random.default_rng(0)
    calm, wild = right(random, 9, 5, 2000, luck=0.002), right(random, 1, 5, 2000, luck=0.08)
    error = judged([*calm, *wild], np.ones(2000)).error
    assert error[9, :9].min() > 2 * error[:9, :9].max()


def test_calm_cells_lend_each_other_degrees_of_freedom() -> None:
    """Of ten cells of three seeds the variance is known better than of one: the posterior spans less."""
    observed, random = np.full(10, 1e-4), np.random.default_rng(0)
    ten, one = (draw_variances(some, np.full(len(some), 2), 4000, random)[:, 0] for some in (observed, observed[:1]))
    assert np.ptp(np.quantile(np.log(ten), (0.05, 0.95))) < 0.7 * np.ptp(np.quantile(np.log(one), (0.05, 0.95)))
    assert np.median(ten) == pytest.approx(1e-4, rel=0.25)


def test_the_noise_of_examples_is_counted_once() -> None:
    """Seeds that differ by nothing but their answers to single examples have no luck: only examples are uncertain.

    One cell: of 4 examples seed 0 has the first two right, seed 1 the last two. Both score 1/2, so nothing varies over
    seeds or over the means of examples. The other has one right, with each seed: variance (1/4 - 1/16) * 4/3 / 4.
    """
    one, other = np.array([[1, 1, 0, 0], [0, 0, 1, 1]]), np.array([[1, 0, 0, 0], [1, 0, 0, 0]])
    found = variances_of([one, other], np.ones(4), "accuracy")
    assert found.of_differences[0, 1] == pytest.approx((1 / 4 - 1 / 16) * (4 / 3) / 4)
    assert found.over_seeds.tolist() == [0, 0]


def test_with_one_seed_there_is_no_test_and_the_interval_is_over_examples() -> None:
    """Whatever the other cells know of luck: their seeds are not this cell's."""
    several, one = right(np.random.default_rng(0), 2, 3, 300, luck=0.05)
    found = pairs_of({"several": several, "one": one[:1], "other": several[:, ::-1]}, np.ones(300), "accuracy")
    difference = found.between("several", "one")
    assert difference.p is None
    examples = stats.ttest_rel(several.mean(axis=0), one[0]).confidence_interval()
    assert difference.interval == pytest.approx(tuple(examples), rel=1e-9)
    assert difference.cells == 2
    assert found.between("several", "other").p is not None
    assert np.isnan(found.p[found.names.index("one")]).all()


def test_cells_of_one_seed_are_never_tied() -> None:
    rows = right(np.random.default_rng(0), 2, 1, 300)
    found = pairs_of({"a": rows[0], "b": rows[1]}, np.ones(300), "accuracy")
    assert found.tied() == {max(("a", "b"), key=lambda name: rows["ab".index(name)].mean())}


def test_a_difference_has_the_p_value_and_the_interval_of_its_whole_table() -> None:
    """Of 20 equal cells the best and the worst differ by more than two that were named before."""
    rows = right(np.random.default_rng(5), 20, 3, 300, luck=0.01)
    found = judged(rows, np.ones(300))
    order = found.variances.means.argsort()
    best, worst = found.names[order[-1]], found.names[order[0]]
    alone = pairs_of({name: rows[int(name)] for name in (best, worst)}, np.ones(300), "accuracy").between(best, worst)
    among = found.between(best, worst)
    assert (alone.cells, among.cells) == (2, 20)
    assert alone.p < 0.05 < among.p
    assert alone.interval[0] > 0 > among.interval[0]


def test_intervals_verdicts_and_p_values_never_contradict_each_other() -> None:
    skills = np.linspace(0.86, 0.90, 30)
    found = judged(right(np.random.default_rng(1), 30, 3, 4000, skill=skills, luck=0.003), np.ones(4000))
    apart = 0
    for one, other in zip(*np.triu_indices(30, 1), strict=True):
        difference = found.between(found.names[one], found.names[other])
        low, high = difference.interval
        assert (difference.p <= LEVEL) == (low > 0 or high < 0)
        apart += difference.p <= LEVEL
    assert 20 < apart < 415


def test_a_part_of_a_table_has_the_verdicts_of_the_whole() -> None:
    rows = right(np.random.default_rng(1), 6, 3, 2000, skill=np.linspace(0.80, 0.90, 6))
    found = judged(rows, np.ones(2000))
    for shown in (("0", "1"), ("2", "3"), ("1", "4", "5")):
        best = max(shown, key=lambda name: found.variances.means[int(name)])
        assert found.tied(shown) == {name for name in shown if name == best or found.between(best, name).p > LEVEL}
    assert len(found.tied(("0", "1"))) == 2
    assert len(found.tied()) < 6


def test_cells_that_answer_alike_are_tied_without_a_warning() -> None:
    row = right(np.random.default_rng(0), 1, 3, 200, luck=0.02)[0]
    assert p_of([row, row, row[:, ::-1]], np.ones(200)).min() > 0.5
    assert tied([row[:1].repeat(3, axis=0)] * 3, np.ones(200)) == [True] * 3


def test_the_same_cells_have_the_same_verdicts_in_any_order_and_each_time() -> None:
    rows = right(np.random.default_rng(2), 5, 3, 300, luck=0.01)
    found = {str(place): row for place, row in enumerate(rows)}
    turned = pairs_of(dict(reversed(found.items())), np.ones(300), "accuracy")
    assert np.array_equal(turned.p, pairs_of(found, np.ones(300), "accuracy").p)


def test_a_paired_bootstrap_by_hand() -> None:
    """Of two labels macro-F1 under equal errors of both kinds is the accuracy to first order: 20 of 100 are right in
    one alone and 8 in the other, 0.12 over sqrt((0.28 - 0.12^2) / 100) = 0.0515. Both seeds answer alike.
    """
    truth = np.arange(100) % 2
    one, other = np.ones((2, 2, 100))
    other[:, :20], one[:, 20:28] = 0, 0
    cells = {name: np.where(right, truth, 1 - truth) for name, right in (("one", one), ("other", other))}
    found = pairs_of(cells, truth, "macro_f1")
    assert found.error[0, 1] == pytest.approx(0.0515, rel=0.08)
    assert found.p[0, 1] == pytest.approx(0.0199, abs=0.015)


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_differs_p_is_1(name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 60)
    predictions = np.repeat(np.where(random.random((1, 60)) < 0.8, truth, 1 - truth), 3, axis=0)
    assert p_of([predictions, predictions.copy()], truth, name)[0, 1] == 1


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_symmetric_and_do_not_depend_on_their_order(name: str) -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 2, 200)
    skill = (0.9, 0.88, 0.86, 0.84, 0.82)
    answers = np.concatenate([right(random, 1, 3, 200, skill=one, luck=0.02) for one in skill])
    cells, order = np.where(answers, truth, 1 - truth), [3, 0, 4, 2, 1]
    found = p_of(cells, truth, name)
    assert np.array_equal(found, found.T)
    assert found.diagonal().tolist() == [1] * 5
    assert 0 < found.min() < np.median(found) < 1
    assert p_of(cells[order], truth, name) == pytest.approx(found[np.ix_(order, order)], abs=0.05)


def test_of_two_that_are_equally_good_either_makes_a_tie() -> None:
    """The third has the 10 errors of the first and 12 more; with the second, which has 10 others, it is 22 to 10."""
    first, second, third = (np.ones((2, 60), int) for _ in range(3))
    first[:, :10], second[:, 30:40], third[:, :22] = 0, 0, 0
    assert tied([first, third], np.ones(60)) == [True, False]
    assert tied([first, second, third], np.ones(60)) == [True, True, True]
    assert tied([second, first, third], np.ones(60)) == [True, True, True]


def test_one_cell_is_the_best() -> None:
    assert tied([np.zeros((2, 5))], np.ones(5)) == [True]
    assert tied([np.zeros((2, 5))], np.ones(5), "macro_f1") == [True]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_clearly_worse_is_found_wherever_it_stands(name: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 400)
    answers = right(random, 5, 3, 400)
    answers[3] = right(random, 1, 3, 400, skill=0.75)[0]
    cells = np.where(answers, truth, 1 - truth)
    assert tied(cells, truth, name) == [True, True, True, False, True]
    assert tied(cells[[3, 0, 1, 2, 4]], truth, name) == [False, True, True, True, True]


def test_equal_cells_are_seldom_told_apart_by_a_bootstrap_either() -> None:
    random, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        truth = random.integers(0, 2, 200)
        cells = np.where(right(random, 4, 3, 200, luck=0.01), truth, 1 - truth)
        wrong += not all(tied(cells, truth, "matthews_correlation"))
    assert wrong <= 0.05 * 200
