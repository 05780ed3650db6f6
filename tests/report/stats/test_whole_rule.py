"""A few settings of the simulation of benchmarks/whole_rule.py; all of them are in results/perf/whole-rule.md."""

import pytest
from simulated_races import ON_GRID, Curve, curved, flat, whole_rule


@pytest.mark.parametrize(
    ("cells", "luck", "curve", "tables"),
    [(2, 0.01, flat, 300), (6, 0.0, flat, 150), (20, 0.01, flat, 60), (50, 0.01, flat, 30), (6, 0.01, curved, 150)],
)
def test_the_whole_rule_tells_equal_cells_from_the_best_in_few_tables(
    cells: int, luck: float, curve: Curve, tables: int
) -> None:
    """In at most 6% of them, within 3 standard errors; and the choice of the rate does not bias what is reported."""
    found = whole_rule(cells, luck, curve, shifts=ON_GRID, tables=tables)
    assert found.wrong <= 0.06 + 3 * (0.06 * 0.94 / tables) ** 0.5
    assert abs(found.bias) < 4 * found.bias_error
    if curve is flat:
        assert found.any == found.wrong
        assert found.found > 0.99


def test_what_a_race_saw_of_its_winner_is_biased() -> None:
    """Or the simulation would not show whether a report that looks at select were biased as well."""
    found = whole_rule(6, 0.01, flat, shifts=ON_GRID, tables=100)
    assert found.select_bias > 0.005
