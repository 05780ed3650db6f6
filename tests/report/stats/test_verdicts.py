"""Some settings of the simulation in benchmarks/verdicts.py; the whole grid is in results/perf/verdicts.md."""

import pytest
from simulated_tables import by_holm, errors_of


@pytest.mark.parametrize(
    ("cells", "seeds", "examples", "luck", "own", "tables"),
    [
        (2, 3, 277, 0.01, 0.5, 500),
        (2, 3, 872, 0.02, 0.0, 500),
        (2, 5, 872, 0.0, 0.5, 500),
        (6, 3, 277, 0.01, 0.0, 300),
        (6, 5, 277, 0.02, 0.5, 300),
        (20, 3, 277, 0.02, 0.0, 100),
        (50, 3, 277, 0.01, 0.5, 50),
    ],
)
def test_equal_cells_differ_from_the_best_in_few_tables(
    cells: int, seeds: int, examples: int, luck: float, own: float, tables: int
) -> None:
    """At most 6% of the tables are wrong, and 93 to 97.5% of the score intervals contain the truth."""
    errors = errors_of(seeds, examples, luck, cells=cells, own=own, tables=tables)
    assert errors.wrong is not None
    assert errors.wrong <= 0.06
    assert 0.93 <= errors.coverage <= 0.975 or tables < 500


def test_a_table_of_many_cells_has_more_power_than_holm() -> None:
    how = {"cells": 20, "skill": [0.9] * 8 + [0.85] * 12, "tables": 30}
    ours, holm = errors_of(3, 872, 0.01, **how), errors_of(3, 872, 0.01, **how, judge=by_holm)
    assert ours.power is not None
    assert holm.power is not None
    assert ours.power > holm.power + 0.2


def test_the_interval_of_one_seed_covers_the_trained_model() -> None:
    assert 0.93 <= errors_of(1, 872, 0.02, tables=1000).coverage <= 0.97
