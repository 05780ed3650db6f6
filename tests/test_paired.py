"""Which cells are told apart: by hand, beside other libraries, and where a simulation knows that nothing differs."""

import gc
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri
from statsmodels.stats.contingency_tables import mcnemar

from bench.choices import Metric
from bench.report.paired import holm, pairs_of

Array = np.ndarray[Any, Any]
NAMES = [metric.value for metric in Metric]


def right_and_wrong(
    random: np.random.Generator, cells: int, seeds: int, examples: int, *, skill: float = 0.88, luck: Any = 0.0
) -> Array:
    """Which answers are right, 1 or 0: [cells, seeds, examples], for a truth of ones.

    Examples are hard or easy to all cells alike. skill: the expected accuracy; luck: its standard deviation over seeds,
    of all cells or of each.
    """
    spread = np.broadcast_to(luck, cells)[:, None, None]
    level = ndtri(np.clip(skill + spread * random.normal(size=(cells, seeds, 1)), 0.01, 0.99)) * np.hypot(1, 1.5)
    return (random.random((cells, seeds, examples)) < ndtr(level + 1.5 * random.normal(size=examples))).astype(int)


def against(only_one: int, only_other: int) -> list[Array]:
    """Two cells of one seed: so many of 20 examples are right in one alone."""
    one, other = np.ones((2, 1, 20), int)
    other[0, :only_one], one[0, only_one : only_one + only_other] = 0, 0
    return [one, other]


def p_of(cells: Any, truth: Array, metric: str = "accuracy") -> Array:
    return pairs_of({str(place): cell for place, cell in enumerate(cells)}, truth, metric).p


def tied(cells: Any, truth: Array, metric: str = "accuracy") -> list[bool]:
    found = pairs_of({str(place): cell for place, cell in enumerate(cells)}, truth, metric).tied
    return [str(place) in found for place in range(len(cells))]


def test_mcnemar_by_hand() -> None:
    """All of 5: 2 / 2^5. One of 7: 2 (1 + 7) / 2^7."""
    assert p_of(against(5, 0), np.ones(20))[0, 1] == pytest.approx(0.0625)
    assert p_of(against(1, 6), np.ones(20))[0, 1] == pytest.approx(0.125)


def test_of_one_seed_each_it_is_the_mcnemar_of_statsmodels() -> None:
    for seed in range(20):
        one, other = right_and_wrong(np.random.default_rng(seed), 2, 1, 300, luck=0.05)
        table = [[np.sum((one == a) & (other == b)) for b in (1, 0)] for a in (1, 0)]
        expected = mcnemar(table, exact=True).pvalue
        assert p_of([one, other], np.ones(300))[0, 1] == pytest.approx(expected, rel=1e-9)


def test_examples_alone_make_the_paired_t_test_of_scipy() -> None:
    """All seeds of a cell answer alike, so only the examples are left to chance."""
    one, other = (np.repeat(row, 2, axis=0) for row in right_and_wrong(np.random.default_rng(0), 2, 1, 300, luck=0.05))
    found = pairs_of({"one": one, "other": other}, np.ones(300), "accuracy")
    expected = stats.ttest_rel(one[0], other[0])
    assert found.p[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.between("one", "other").interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)


def test_seeds_alone_make_the_t_test_of_scipy() -> None:
    """Every example is answered alike, so only the seeds are left to chance; both cells have the same spread."""
    one, other = np.array([[1], [1], [0], [1]]) * np.ones(50), np.array([[0], [1], [0], [0]]) * np.ones(50)
    found = pairs_of({"one": one, "other": other}, np.ones(50), "accuracy")
    expected = stats.ttest_ind(one[:, 0], other[:, 0])
    assert found.p[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.between("other", "one").interval == pytest.approx(
        tuple(-edge for edge in reversed(expected.confidence_interval())), rel=1e-9
    )


def test_examples_and_seeds_by_hand() -> None:
    """One: 6 and 8 of 10 right, variance 0.02. Other: 5 and 5. Per example a mean of 0.7 and 0.5, less by 1 on one, by
    0.5 on two and by 0 on seven: variance (1.5 - 0.4) / 9 over 10 is 0.0122. The family's variance over seeds is 0.01,
    0.01 for a difference of two means of two; one's own is that as well. Error: the root of 0.0222.
    """
    one, other = np.zeros((2, 2, 10), int)
    one[0, :6], one[1, :8], other[:, 1:6] = 1, 1, 1
    found = pairs_of({"one": one, "other": other}, np.ones(10), "accuracy")
    examples = (1.5 - 0.4) / 9 / 10
    error, degrees = (examples + 0.01) ** 0.5, (examples + 0.01) ** 2 / (examples**2 / 9 + 0.01**2 / 2)
    assert found.error[0, 1] == pytest.approx(error)
    assert found.degrees[0, 1] == pytest.approx(degrees)
    assert found.p[0, 1] == pytest.approx(2 * stats.t.sf(0.2 / error, degrees))


def test_a_cell_with_more_luck_than_its_family_has_its_own() -> None:
    """Four of five cells know no luck; the fifth is right on all examples with one seed, on none with the other."""
    wild, calm = np.array([[1] * 20, [0] * 20]), [np.arange(20) % 2 * np.ones((2, 1))] * 4
    found = pairs_of(dict(zip("abcde", [wild, *calm], strict=True)), np.ones(20), "accuracy")
    examples = np.var(np.arange(20) % 2, ddof=1) / 20
    assert found.error[0, 1] ** 2 == pytest.approx(examples + 0.5 / 2)
    assert found.error[1, 2] ** 2 == pytest.approx(2 * (0.5 / 5) / 2)


def test_one_seed_has_the_luck_of_the_others() -> None:
    """Variance 1/12 over three seeds, the only cell with several; the difference has 1/3 and 1 of it."""
    several, alone = np.array([[1, 1], [1, 1], [0, 1]]), np.array([[1, 1]])
    found = pairs_of({"several": several, "alone": alone}, np.ones(2), "accuracy")
    of_examples = np.var([1 / 3, 0], ddof=1) / 2
    assert found.error[0, 1] ** 2 == pytest.approx(of_examples + (1 / 12) * (1 / 3 + 1))


def test_a_paired_bootstrap_by_hand() -> None:
    """Of two labels macro-F1 under equal errors of both kinds is the accuracy to first order: 20 of 100 are right in
    one alone and 8 in the other, 0.12 over sqrt((0.28 - 0.12^2) / 100) = 0.0515.
    """
    truth = np.arange(100) % 2
    one, other = np.ones((2, 1, 100))
    other[0, :20], one[0, 20:28] = 0, 0
    cells = {name: np.where(right, truth, 1 - truth) for name, right in (("one", one), ("other", other))}
    found = pairs_of(cells, truth, "macro_f1")
    assert found.error[0, 1] == pytest.approx(0.0515, rel=0.08)
    assert found.p[0, 1] == pytest.approx(0.0199, abs=0.008)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_differs_p_is_1(name: str, seeds: int) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 60)
    predictions = np.repeat(np.where(random.random((1, 60)) < 0.8, truth, 1 - truth), seeds, axis=0)
    assert p_of([predictions, predictions.copy()], truth, name)[0, 1] == 1


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_symmetric_and_do_not_depend_on_their_order(name: str) -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 2, 200)
    skill = (0.9, 0.88, 0.86, 0.84, 0.82)
    right = np.concatenate([right_and_wrong(random, 1, 3, 200, skill=one, luck=0.02) for one in skill])
    cells, order = np.where(right, truth, 1 - truth), [3, 0, 4, 2, 1]
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
    """The third wins one example and loses 9 to the first: 2 (1 + 10) / 2^10 = 0.0215, which is 0.043 for two pairs
    and 0.064 for three. Where it wins none, 2 / 2^9 = 0.0039 is 0.012.
    """
    best, second, third = np.ones((3, 1, 30), int)
    best[0, 0], second[0, :2], third[0, 1:10] = 0, 0, 0
    assert tied([best, second, third], np.ones(30)) == [True, True, True]
    assert tied([best, third], np.ones(30)) == [True, False]
    third[0, 0] = 0
    assert tied([third, best, second], np.ones(30)) == [False, True, True]


def test_of_two_that_are_equally_good_either_makes_a_tie() -> None:
    """Both have 10 wrong. The third has those of the first and 12 more, 2 / 2^12; with the second it is 22 to 10."""
    first, second, third = np.ones((3, 1, 60), int)
    first[0, :10], second[0, 30:40], third[0, :22] = 0, 0, 0
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
    right = right_and_wrong(random, 5, 3, 400)
    right[3] = right_and_wrong(random, 1, 3, 400, skill=0.75)[0]
    cells = np.where(right, truth, 1 - truth)
    assert tied(cells, truth, name) == [True, True, True, False, True]
    assert tied(cells[[3, 0, 1, 2, 4]], truth, name) == [False, True, True, True, True]


MIXED = np.array([0.002, 0.002, 0.002, 0.01, 0.002, 0.01])


@pytest.mark.parametrize(
    ("seeds", "examples", "luck"),
    [(1, 300, 0), (3, 300, 0), (3, 872, 0.01), (3, 872, MIXED), (3, 5463, 0.01)],
    ids=["one seed", "alike", "luck of seeds", "luck of some", "luck on many examples"],
)
def test_cells_of_equal_skill_are_seldom_told_apart(
    seeds: int, examples: int, luck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 5 times in 100 a table of six equals may name one that is worse than the best."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels does it in every correction, for 20 ms each
    random, truth = np.random.default_rng(0), np.ones(examples, int)
    tables = (right_and_wrong(random, 6, seeds, examples, luck=luck) for _ in range(2000))
    wrong = np.mean([not all(tied(cells, truth)) for cells in tables])
    assert wrong <= 0.05


def test_equal_cells_are_seldom_told_apart_by_a_bootstrap_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: 0)
    random, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        truth = random.integers(0, 2, 200)
        cells = np.where(right_and_wrong(random, 4, 3, 200, luck=0.01), truth, 1 - truth)
        wrong += not all(tied(cells, truth, "matthews_correlation"))
    assert wrong <= 0.05 * 200
