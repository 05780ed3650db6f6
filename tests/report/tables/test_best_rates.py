"""Where the best rate lies, how it moves with the rank, and what another cell's rate costs."""

import math
from dataclasses import replace

import pytest
from sample_records import race_record, record_of
from test_tables import made, rows_of

from bench.records.record import Record
from bench.report.record_frame import Study
from bench.report.tables.best_rates import best_of
from bench.report.tables.scores import TABLES
from bench.report.tables.table import ratio_text

RATES = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2)


def trained(
    best: float, *, seeds: tuple[int, ...] = (0, 1), rates: tuple[float, ...] = RATES, **cell: object
) -> list[Record]:
    """Trials whose loss on select is a parabola around a rate, and whose score falls by 10 points a decade from it."""
    found = []
    for lr in rates:
        away = math.log10(lr / best)
        for seed in seeds:
            one = record_of(lr=lr, seed=seed, report=0.8 - 0.1 * abs(away), select=0.5, **cell)  # type: ignore[arg-type]
            losses = [[75, 0.9], [225, 0.4 + 0.1 * away**2 + 0.01 * seed]]
            found.append(replace(one, scores={**(one.scores or {}), "select_losses": losses}))
    return found


def test_the_best_rate_lies_between_those_that_were_tried() -> None:
    best = best_of(trained(6e-4))
    assert best is not None
    assert best.lr == pytest.approx(6e-4, rel=1e-6)
    assert (best.tried, best.edge) == (1e-3, "")


@pytest.mark.parametrize(("best", "shown"), [(2e-5, "<0.0001"), (5e-2, ">0.01")])
def test_at_an_edge_it_says_so(best: float, shown: str) -> None:
    assert str(best_of(trained(best))) == shown


def test_seeds_that_not_all_rates_have_do_not_count() -> None:
    lucky = replace(trained(1e-3, seeds=(2,), rates=(1e-4,))[0], scores={"select_losses": [[1, 0.0]], "report": 1.0})
    best = best_of([*trained(1e-3), lucky])
    assert best is not None
    assert best.lr == pytest.approx(1e-3, rel=1e-6)


def test_of_a_race_the_dropped_candidates_make_no_edge_and_no_parabola() -> None:
    best = best_of([race_record(3.16e-3)])
    assert best is not None
    assert (best.tried, best.edge) == (3.16e-3, "")
    assert best.lr == pytest.approx(3.16e-3, rel=1e-2)  # its loss rises alike on both sides
    at_the_end = race_record(3.16e-3, outcomes={1e-2: "dropped"}, rule={"finalists": 4})
    assert str(best_of([at_the_end])) == "0.0032"


def test_two_rates_are_too_few() -> None:
    assert best_of(trained(1e-3, rates=(1e-4, 1e-3))) is None
    assert best_of([]) is None
    study = Study.of(trained(1e-3, rates=(1e-4, 1e-3)))
    assert TABLES["best_rates"](study, "report_score") is None


def test_the_table_sets_ranks_against_full_fine_tuning_and_says_what_a_carried_rate_costs() -> None:
    by_rank = {1: 3.16e-3, 10: 1e-3, 100: 3.16e-4}
    lora = [trained(best, rank=rank) for rank, best in by_rank.items()]
    table = made("best_rates", *lora, trained(3.16e-4, method="full", rank=None, target=None))
    rows = {row["rank"]: row for row in table.body.to_dict("records")}
    assert [rows[rank]["best lr"] for rank in ("1", "10", "100", "-")] == ["0.0032", "0.001", "0.00032", "0.00032"]
    assert [rows[rank]["x full"] for rank in ("1", "10", "100", "-")] == ["10", "3.16", "1.00", "1.00"]
    assert [rows[rank]["loses"] for rank in ("1", "10", "100", "-")] == ["-", "+5.0", "+10.0", "-"]
    (line,) = [note for note in table.notes if note.startswith("lora")]
    assert "a rank ten times higher has 0.32 times the best rate" in line
    assert "1.00 to 10 times full fine-tuning's best rate (geometric mean 3.16)" in line
    assert "the best rate of lora r=1 qv costs the others 7.5 points on average, 10.0 at most" in line


def test_a_cell_that_was_trained_at_one_rate_tells_nothing_of_what_another_costs() -> None:
    raced = [[*trained(1e-3, rates=(1e-3,), rank=rank), race_record(1e-3, rank=rank)] for rank in (1, 8)]
    table = made("best_rates", *raced)
    assert "loses" not in table.body
    assert not [note for note in table.notes if "costs the others" in note]


def test_policies_of_scale_are_families_of_their_own() -> None:
    def scaled(scale: str | None, *found: list[Record]) -> list[list[Record]]:
        ident = "" if scale is None else scale
        return [
            [replace(one, cell={**one.cell, "id": one.cell["id"] + ident, "scale": scale}) for one in some]
            for some in found
        ]

    both = [
        *scaled(None, trained(1e-3, rank=1), trained(3.16e-4, rank=8)),
        *scaled("fixed", trained(1e-3, rank=1), trained(1e-3, rank=8)),
    ]
    table = made("best_rates", *both)
    lines = [note for note in table.notes if note.startswith("lora")]
    assert "5.0 points on average" in lines[0]
    assert lines[1].startswith("lora scale=fixed: the best rate of lora r=1 qv costs the others 0.0 points")
    assert rows_of(table)


def test_a_ratio_reads_well_at_every_size() -> None:
    sizes = (0.00117, 0.3162, 1, 3.162, 31.62, 1923)
    assert [ratio_text(one) for one in sizes] == ["0.0012", "0.32", "1.00", "3.16", "32", "1,923"]
