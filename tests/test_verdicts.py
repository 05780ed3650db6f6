"""Four settings of the simulation of tests/perf/verdicts.py, whose whole grid is in results/perf/verdicts.md."""

import gc

import pytest
from simulated_tables import errors_of


@pytest.mark.parametrize(("seeds", "examples", "luck"), [(3, 277, 0.01), (3, 872, 0.02), (5, 872, 0.0), (5, 277, 0.02)])
def test_tests_and_intervals_are_wrong_no_more_often_than_they_say(
    seeds: int, examples: int, luck: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 6% of 2,000 pairs of equal cells are told apart, and 93 to 97% of the intervals hold the truth."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels does it in every correction, for 20 ms each
    errors = errors_of(seeds, examples, luck)
    assert errors.level is not None
    assert errors.level <= 0.06
    assert 0.93 <= errors.coverage <= 0.97


def test_the_interval_of_one_seed_is_about_the_trained_model() -> None:
    assert 0.93 <= errors_of(1, 872, 0.02, tables=1000).coverage <= 0.97
