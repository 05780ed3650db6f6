"""Which cells are told apart: by hand, beside other libraries, and where a simulation knows that nothing differs."""

import gc
from typing import Any

import numpy as np
import pytest
from scipy import stats
from simulated_tables import right_and_wrong

from bench.choices import Metric
from bench.report.paired import holm, pairs_of

Array = np.ndarray[Any, Any]
NAMES = [metric.value for metric in Metric]


def right(random: np.random.Generator, cells: int, seeds: int, examples: int, **how: Any) -> Array:
    """Which answers are right, 1 or 0, for a truth of ones: [cells, seeds, examples]."""
    return right_and_wrong(random, cells, seeds, examples, **how)[0]


def p_of(cells: Any, truth: Array, metric: str = "accuracy") -> Array:
    return pairs_of({str(place): cell for place, cell in enumerate(cells)}, truth, metric).p


def tied(cells: Any, truth: Array, metric: str = "accuracy") -> list[bool]:
    found = pairs_of({str(place): cell for place, cell in enumerate(cells)}, truth, metric).tied
    return [str(place) in found for place in range(len(cells))]


def test_examples_alone_make_the_paired_t_test_of_scipy() -> None:
    """All seeds of a cell answer alike, so only the examples are left to chance."""
    one, other = (np.repeat(row, 2, axis=0) for row in right(np.random.default_rng(0), 2, 1, 300, luck=0.05))
    found = pairs_of({"one": one, "other": other}, np.ones(300), "accuracy")
    expected = stats.ttest_rel(one[0], other[0])
    assert found.p[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.between("one", "other").interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)


def test_seeds_alone_make_the_welch_test_of_scipy() -> None:
    """Every example is answered alike, so only the seeds are left to chance, and one cell has more of them."""
    one, other = np.array([[1], [1], [0], [1]]) * np.ones(50), np.array([[0], [1], [0], [0], [0], [0]]) * np.ones(50)
    found = pairs_of({"one": one, "other": other}, np.ones(50), "accuracy")
    expected = stats.ttest_ind(one[:, 0], other[:, 0], equal_var=False)
    assert found.p[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.between("other", "one").interval == pytest.approx(
        tuple(-edge for edge in reversed(expected.confidence_interval())), rel=1e-9
    )


def test_a_cell_with_more_luck_than_its_family_has_its_own_variance_and_degrees_of_freedom() -> None:
    """Four of five cells know no luck; the fifth is right on all examples with one seed, on none with the others."""
    wild = np.array([[1] * 20, [0] * 20, [0] * 20])
    calm = [np.arange(20) % 2 * np.ones((3, 1))] * 4
    found = pairs_of(dict(zip("abcde", [wild, *calm], strict=True)), np.ones(20), "accuracy")
    examples, seeds = np.var(np.arange(20) % 2, ddof=1) / 20, (1 / 3) / 3
    assert found.error[0, 1] ** 2 == pytest.approx(examples + seeds)
    assert found.degrees[0, 1] == pytest.approx((examples + seeds) ** 2 / (examples**2 / 19 + seeds**2 / 2))
    assert found.error[1, 2] == 0


def test_the_noise_of_examples_is_counted_once() -> None:
    """Seeds that differ by nothing but their answers to single examples have no luck: only examples are uncertain.

    One cell: of 4 examples seed 0 has the first two right, seed 1 the last two. Both score 1/2, so nothing varies over
    seeds or over the means of examples. The other has one right, with each seed: variance (1/4 - 1/16) * 4/3 / 4.
    """
    one, other = np.array([[1, 1, 0, 0], [0, 0, 1, 1]]), np.array([[1, 0, 0, 0], [1, 0, 0, 0]])
    found = pairs_of({"one": one, "other": other}, np.ones(4), "accuracy")
    assert found.error[0, 1] ** 2 == pytest.approx((1 / 4 - 1 / 16) * (4 / 3) / 4)


def test_with_one_seed_there_is_no_test_and_the_interval_is_over_examples() -> None:
    """Whatever the other cells know of luck: their seeds are not this cell's."""
    several, one = right(np.random.default_rng(0), 2, 3, 300, luck=0.05)
    found = pairs_of({"several": several, "one": one[:1], "other": several[:, ::-1]}, np.ones(300), "accuracy")
    difference = found.between("several", "one")
    assert difference.p is None
    examples = stats.ttest_rel(several.mean(axis=0), one[0]).confidence_interval()
    assert difference.interval == pytest.approx(tuple(examples), rel=1e-9)
    assert found.tests == 1
    assert found.between("several", "other").p is not None


def test_cells_of_one_seed_are_never_tied() -> None:
    rows = right(np.random.default_rng(0), 2, 1, 300)
    found = pairs_of({"a": rows[0], "b": rows[1]}, np.ones(300), "accuracy")
    assert found.tied == {max(("a", "b"), key=lambda name: rows["ab".index(name)].mean())}


def test_a_difference_has_the_p_value_of_its_whole_family() -> None:
    """Of 20 equal cells the best and the worst differ by more than two that were named before."""
    rows = right(np.random.default_rng(5), 20, 3, 300, luck=0.01)
    found = pairs_of({str(place): row for place, row in enumerate(rows)}, np.ones(300), "accuracy")
    means = found.variances.means
    best, worst = int(means.argmax()), int(means.argmin())
    assert found.p[best, worst] < 0.01
    difference = found.between(str(best), str(worst))
    assert (difference.p, difference.pairs) == (pytest.approx(190 * found.p[best, worst]), 190)
    assert difference.p > 0.05


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
    assert found.p[0, 1] == pytest.approx(0.0199, abs=0.008)


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
    assert p_of(cells[order], truth, name) == pytest.approx(found[np.ix_(order, order)], rel=1e-6)


def test_holm_by_hand() -> None:
    """Of four the least counts 4 times, then 3 and 2 times and once, and none may fall below one before it."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])
    assert holm(np.array([])).tolist() == []


def test_a_tie_is_corrected_for_all_pairs_and_not_only_for_those_with_the_best() -> None:
    """Two of three cells differ with p = 0.02: 0.04 for the two pairs that hold the best, 0.06 for all three."""
    best, second, third = (np.ones((2, 40), int) for _ in range(3))
    second[:, 0], third[:, 1:6] = 0, 0
    p = p_of([best, third], np.ones(40))[0, 1]
    assert 0.05 / 3 < p < 0.05 / 2
    assert tied([best, third], np.ones(40)) == [True, False]
    assert tied([best, second, third], np.ones(40)) == [True, True, True]


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


def test_equal_cells_are_seldom_told_apart_by_a_bootstrap_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)
    random, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        truth = random.integers(0, 2, 200)
        cells = np.where(right(random, 4, 3, 200, luck=0.01), truth, 1 - truth)
        wrong += not all(tied(cells, truth, "matthews_correlation"))
    assert wrong <= 0.05 * 200
