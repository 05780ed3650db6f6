"""A few settings of the simulation in benchmarks/whole_rule.py; all of them are in results/perf/whole-rule.md."""

import pytest
from simulated_races import ON_GRID, Curve, curved, flat, whole_rule


@pytest.mark.parametrize(
    ("cells", "luck", "curve", "tables"),
    [(2, 0.01, flat, 300), (6, 0.0, flat, 150), (20, 0.01, flat, 60), (50, 0.01, flat, 30), (6, 0.01, curved, 150)],
)
def test_equal_cells_under_the_whole_rule_differ_from_the_best_in_few_tables(
    cells: int, luck: float, curve: Curve, tables: int
) -> None:
    """At most 6% are wrong, within 3 standard errors, and the choice of the rate does not bias the reported scores."""
    simulated = whole_rule(cells, luck, curve, shifts=ON_GRID, tables=tables)
    assert simulated.wrong <= 0.06 + 3 * (0.06 * 0.94 / tables) ** 0.5
    assert abs(simulated.bias) < 4 * simulated.bias_error
    if curve is flat:
        assert simulated.any == simulated.wrong
        assert simulated.hit_rate > 0.99


def test_the_select_score_of_a_race_winner_is_biased() -> None:
    """Otherwise the simulation could not show whether reporting scores on select would be biased."""
    simulated = whole_rule(6, 0.01, flat, shifts=ON_GRID, tables=100)
    assert simulated.select_bias > 0.005
