"""The best learning rate of a cell, its change with the rank, and the cost of using another cell's rate."""

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
    """Return trials whose select loss is a parabola around `best` and whose score falls by 10 points per decade."""
    trials = []
    for lr in rates:
        away = math.log10(lr / best)
        for seed in seeds:
            trial = record_of(lr=lr, seed=seed, report=0.8 - 0.1 * abs(away), select=0.5, **cell)  # type: ignore[arg-type]
            losses = [[75, 0.9], [225, 0.4 + 0.1 * away**2 + 0.01 * seed]]
            trials.append(replace(trial, scores={**(trial.scores or {}), "select_losses": losses}))
    return trials


def test_the_best_rate_lies_between_the_tried_rates() -> None:
    best = best_of(trained(6e-4))
    assert best is not None
    assert best.lr == pytest.approx(6e-4, rel=1e-6)
    assert (best.tried, best.edge) == (1e-3, "")


@pytest.mark.parametrize(("best", "shown"), [(2e-5, "<0.0001"), (5e-2, ">0.01")])
def test_a_best_rate_at_an_edge_is_shown_as_a_bound(best: float, shown: str) -> None:
    assert str(best_of(trained(best))) == shown


def test_only_seeds_common_to_all_rates_count() -> None:
    lucky = replace(trained(1e-3, seeds=(2,), rates=(1e-4,))[0], scores={"select_losses": [[1, 0.0]], "report": 1.0})
    best = best_of([*trained(1e-3), lucky])
    assert best is not None
    assert best.lr == pytest.approx(1e-3, rel=1e-6)


def test_dropped_candidates_of_a_race_make_no_edge_and_no_parabola() -> None:
    best = best_of([race_record(3.16e-3)])
    assert best is not None
    assert (best.tried, best.edge) == (3.16e-3, "")
    assert best.lr == pytest.approx(3.16e-3, rel=1e-2)  # its loss rises alike on both sides
    at_the_end = race_record(3.16e-3, outcomes={1e-2: "dropped"}, rule={"finalists": 4})
    assert str(best_of([at_the_end])) == "0.0032"


def test_two_rates_are_too_few_for_a_best_rate() -> None:
    assert best_of(trained(1e-3, rates=(1e-4, 1e-3))) is None
    assert best_of([]) is None
    study = Study.of(trained(1e-3, rates=(1e-4, 1e-3)))
    assert TABLES["best_rates"](study, "report_score") is None


def test_best_rates_are_compared_with_full_fine_tuning_and_between_ranks() -> None:
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


def test_cells_trained_at_one_rate_show_no_loss_at_another() -> None:
    raced = [[*trained(1e-3, rates=(1e-3,), rank=rank), race_record(1e-3, rank=rank)] for rank in (1, 8)]
    table = made("best_rates", *raced)
    assert "loses" not in table.body
    assert not [note for note in table.notes if "costs the others" in note]


def test_scale_policies_are_separate_families() -> None:
    def scaled(scale: str | None, *cells: list[Record]) -> list[list[Record]]:
        ident = "" if scale is None else scale
        return [
            [
                replace(record, cell={**record.cell, "id": record.cell["id"] + ident, "scale": scale})
                for record in records
            ]
            for records in cells
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


def test_ratios_are_rounded_by_their_size() -> None:
    ratios = (0.00117, 0.3162, 1, 3.162, 31.62, 1923)
    assert [ratio_text(ratio) for ratio in ratios] == ["0.0012", "0.32", "1.00", "3.16", "32", "1,923"]
