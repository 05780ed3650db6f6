"""Only its race makes a row tuned, and nothing untuned is best, tied, tested or recommended."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_records import probe_of, race_record, record_of, store
from test_manifest import cell_of, remember
from test_tables import cell, made, rows_of

from bench.config import compose as grid
from bench.records.manifest import Remembered
from bench.records.record import Record
from bench.report.__main__ import cli
from bench.report.compare import difference
from bench.report.dashboard.dashboard import payload
from bench.report.figures.figures import FIGURES
from bench.report.record_frame import Study, distinct
from bench.report.stats.ties import pairs_in, standings
from bench.report.tables.scores import TABLES
from bench.report.tables.table import BEST, TIED
from bench.report.tuning import WHOLE

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """Run the command line on the stored records; return the exit code and stdout without line breaks."""

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli([*arguments, f"results_dir={tmp_path}"])
        return code, " ".join(capsys.readouterr().out.split())

    return call


def study_of(*cells: list[Record]) -> Study:
    return Study.of(record for records in cells for record in records)


def row_of(*records: Record) -> dict[str, Any]:
    cells = Study.of(records).cells
    (row,) = cells.astype(object).where(cells.notna(), None).to_dict("records")
    return row  # type: ignore[return-value]


def configured(records: list[Record], **config: Any) -> list[Record]:
    return [replace(record, config={**record.config, **config}) for record in records]


def test_a_tuned_row_holds_only_the_trials_at_the_rate_of_its_race() -> None:
    """A trial at another rate does not change the score, the seeds, the outcome or the time."""
    cost = {"samples": 1234.5}
    own = [probe_of(), *(record_of(seed=seed, lr=3.16e-3, report=0.7, cost=cost) for seed in range(3))]
    others = [record_of(seed=seed, lr=1e-3, select=0.99, report=0.9, cost={"samples": 99}) for seed in range(5)]
    bad = record_of(seed=1, lr=1e-2, outcome="diverged")
    race = race_record(3.16e-3)
    assert row_of(*own, race) == row_of(*own, race, *others, bad) == row_of(bad, race, *others, *own)
    row = row_of(*own, race, *others, bad)
    assert (row["lr"], row["report_score"], row["seeds"], row["outcome"]) == (3.16e-3, pytest.approx(0.7), 3, "3 ok")
    assert (row["tuning"], row["rates"]) == ("tuned", 7)
    assert row["train_seconds"] == pytest.approx(1.0)


def test_rates_are_compared_to_the_last_digit() -> None:
    row = row_of(race_record(0.1 + 0.2, published=0.3), record_of(lr=0.3), record_of(lr=0.1 + 0.2, report=0.8))
    assert (row["report_score"], row["seeds"]) == (0.8, 1)


@pytest.mark.parametrize(("rates", "config", "tuning"), [
    ([1e-3], {"lrs": "published"}, "published"),
    ([1e-3], {"lrs": [1e-3], "method": {"lr": 1e-3}}, "published"),  # as in old records
    ([1e-3], {"lrs": "tuned", "method": {"lr": 1e-3}}, "published"),  # protocol=smoke does not tune
    ([1e-3], {"lrs": [1e-3], "method": {"lr": 5e-4}}, "one rate"),
    ([1e-3], {}, "one rate"),
    ([1e-3, 1e-2], {"lrs": [1e-3, 1e-2]}, "best of 2"),
    ([1e-4, 1e-3, 1e-2], {"lrs": "all"}, "best of 3"),
    ([None], {"method": {"lr": None}}, None),
    ([], {}, None),
])  # fmt: skip
def test_without_a_race_a_row_states_the_tried_rates(
    rates: list[float | None], config: dict[str, Any], tuning: str | None
) -> None:
    trials = [record_of(lr=lr, select=0.5 if lr is None else 0.5 + lr) for lr in rates]  # type: ignore[arg-type]
    row = row_of(*configured([probe_of(), *trials], **config))
    assert (row["tuning"], row["rates"]) == (tuning, len([lr for lr in rates if lr is not None]))


def test_an_undecided_race_does_not_change_the_row() -> None:
    trials = [record_of(lr=lr, select=0.5 + lr) for lr in (1e-4, 1e-3)]
    undecided = replace(race_record(None), outcome="interrupted")
    assert row_of(*trials, undecided) == row_of(*trials)


@pytest.mark.parametrize("outcome", ["oom", "diverged", "failed", "interrupted"])
def test_the_outcome_of_a_race_without_a_winner_replaces_the_score(outcome: str) -> None:
    race = replace(race_record(None, outcomes=dict.fromkeys((1e-2, 3.16e-2), "oom")), outcome=outcome)
    table = made("cells", [probe_of(), race])
    assert table.body["accuracy %"].tolist() == [outcome.upper()]
    assert table.body["outcome"].tolist() == [f"race {outcome}"]
    body = made("outcomes", [probe_of(), race]).body
    assert body[["seed", "outcome", "error"]].to_numpy().tolist() == [
        ["1000 (race)", "oom", "no luck at 0.01"],
        ["1000 (race)", "oom", "no luck at 0.0316"],
    ]


def test_distinct_keeps_the_newest_decided_race_and_every_other_kind() -> None:
    newest = replace(race_record(1e-2), provenance={"written": "2026"})
    older = replace(race_record(1e-3), provenance={"written": "2025"})
    interrupted = replace(race_record(None), outcome="interrupted", provenance={"written": "2027"})
    kept = distinct([older, probe_of(), interrupted, newest, record_of()])
    assert [record.kind for record in kept] == ["race", "probe", "trial"]
    assert kept[0] == newest


def tuned_and_untuned() -> tuple[list[list[Record]], list[list[Record]]]:
    """Return three tuned cells, and two untuned cells that score better than all of them."""
    tuned = [
        cell(0.90, 0.91, 0.90, method="lora"),
        cell(0.89, 0.90, 0.90, method="ia3", rank=None, offset=10),
        cell(0.60, 0.61, 0.60, method="head", rank=None, target=None, offset=20),
    ]
    untuned = [
        configured(cell(0.97, 0.98, 0.97, method=f"m{n}", trainable=10 + n, offset=30 + 10 * n, tuned=False), **config)
        for n, config in enumerate(({"lrs": "published"}, {}))
    ]
    return tuned, untuned


def test_untuned_cells_have_no_verdict_and_change_none() -> None:
    tuned, untuned = tuned_and_untuned()
    alone, whole = study_of(*tuned), study_of(*tuned, *untuned)
    (key,) = whole.cells["table"].unique()
    assert standings(whole, whole.cells) == standings(alone, alone.cells)
    assert sorted(standings(alone, alone.cells).values()) == [BEST, TIED]
    family = pairs_in(whole, key)
    assert family is not None
    assert set(family.names) == set(alone.cells["cell"])
    rows = [frame.set_index("method") for frame in (alone.cells, whole.cells)]
    difference_alone, difference_whole = (
        difference(part, frame.loc["lora"].rename(None), frame.loc["head"])
        for part, frame in zip((alone, whole), rows, strict=True)
    )
    assert difference_alone == difference_whole
    assert difference_alone.p is not None
    against = difference(whole, rows[1].loc["m0"], rows[1].loc["lora"])
    assert (against.p, against.interval) == (None, None)


def test_the_best_of_three_rates_is_tested_and_of_two_is_not() -> None:
    for many, marks in ((3, [BEST, TIED]), (2, [])):
        cells = []
        for name in ("lora", "ia3"):
            records = cell(0.9, 0.9, 0.9, method=name, tuned=False)
            other_rates = [
                record_of(method=name, seed=s, lr=1e-5 / n, select=0.1) for s in range(3) for n in range(1, many)
            ]
            cells.append([*records, *other_rates])
        study = study_of(*cells)
        assert set(study.cells["tuning"]) == {f"best of {many}"}
        assert sorted(standings(study, study.cells).values()) == marks


def test_tables_name_untuned_cells_and_explain_the_missing_marks() -> None:
    tuned, untuned = tuned_and_untuned()
    table = made("cells", *tuned, *untuned)
    tuning = dict(zip(table.body["method"], table.body["tuning"], strict=True))
    assert tuning["lora"] == "tuned (7 rates)"
    assert (tuning["m0"], tuning["m1"]) == ("published rate", "one rate, untuned")
    (note,) = [note for note in table.notes if note.startswith("No verdict on")]
    assert note.startswith(
        "No verdict on m0 r=8 qv, m1 r=8 qv: each was trained at its published rate or at one rate, untuned."
    )
    assert "rerun the command without lrs=" in note
    notes = made("methods", *untuned).notes
    assert any(note.startswith("No verdicts, so no bold and no marks: each cell was trained at") for note in notes)
    assert not any("No verdict" in note for note in made("cells", *tuned).notes)


def test_compare_gives_untuned_cells_no_verdict_and_shows_the_tuning_command(ask: Ask, tmp_path: Path) -> None:
    tuned, untuned = tuned_and_untuned()
    store(tmp_path, *(record for records in [*tuned, *untuned] for record in records))
    code, text = ask("compare", "a=m0", "b=lora")
    assert code == 0
    assert "m0 r=8 qv is ahead of lora r=8 qv by 7.0 points on sst2 (minilm)." in text
    assert (
        "No verdict: m0 r=8 qv was trained at its published rate, so the difference may come from the learning rates. "
        "To tune: python -m bench.run model=minilm task=sst2 method=m0 rank=8 target=qv 'seeds=[0,1,2]'" in text
    )
    assert " p " not in text
    assert "significant" not in text
    _, text = ask("compare", "a=m0", "b=m1")
    assert "m1 r=8 qv was trained at one rate, untuned" in text
    assert text.count("python -m bench.run") == 2
    assert " && " in text


def test_compare_prefers_a_tuned_cell_to_a_better_untuned_one(ask: Ask, tmp_path: Path) -> None:
    cells = [cell(0.9, 0.9, rank=1), cell(0.95, 0.95, rank=8, tuned=False), cell(0.8, 0.8, method="ia3", rank=None)]
    store(tmp_path, *(record for records in cells for record in records))
    text = ask("compare", "a=lora", "b=ia3")[1]
    assert "lora r=1 qv is ahead" in text
    assert "No verdict" not in text


def test_the_tuning_command_omits_a_protocol_that_does_not_tune(ask: Ask, tmp_path: Path) -> None:
    protocol = {"protocol": {**record_of().config["protocol"], "name": "smoke"}}
    cells = [cell(score, score, method=name, tuned=False) for name, score in (("lora", 0.9), ("ia3", 0.8))]
    store(tmp_path, *(record for records in cells for record in configured(records, **protocol)))
    _, text = ask("compare", "a=lora", "b=ia3")
    assert "python -m bench.run model=minilm" in text
    assert "protocol=smoke" not in text.split("To tune:")[1].split("&&")[0]


def test_recommend_chooses_only_among_tuned_cells(ask: Ask, tmp_path: Path) -> None:
    tuned, untuned = tuned_and_untuned()
    store(tmp_path, *(record for records in [*tuned, *untuned] for record in records))
    text = ask("recommend")[1]
    assert "take lora r=8 qv at learning rate 0.001." in text
    assert "Left out, because their learning rates are not tuned: 2 cells." in text


def test_recommend_chooses_nothing_if_no_cell_is_tuned(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, *(record for records in tuned_and_untuned()[1] for record in records))
    code, text = ask("recommend")
    assert code == 0
    assert (
        "too few cells to choose from: 2 scored cells of 2, and none of them with a tuned learning rate; rerun" in text
    )


def test_a_run_of_untuned_cells_ends_with_the_tuning_command_and_no_best_cell(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned, untuned = tuned_and_untuned()
    store(tmp_path, *(record for records in [*tuned, *untuned] for record in records))
    planned = [cell_of(record) for records in untuned for record in records]
    command = ["-m", "lrs=published", "protocol=smoke", "method=m0"]
    with Remembered(tmp_path, command, lambda: planned, pytest.fail) as remembered:
        remembered.exit = 0
    text = ask("run=last")[1]
    assert "No best cell for minilm on sst2. No verdicts, so no bold and no marks" in text
    assert "Next, tune the learning rates: python -m bench.run -m method=m0 Next" in text
    remember(tmp_path, *(record for records in [*tuned, *untuned] for record in records))
    text = ask("run=last")[1]
    assert "Best for minilm on sst2: lora r=8 qv" in text
    assert re.search(r"Next, compare the best two: python -m bench.report compare a=\w+ b=\w+ run=", text)


def test_untuned_cells_are_on_no_front_of_figures_and_page() -> None:
    tuned, untuned = tuned_and_untuned()
    study = study_of(*tuned, *untuned)
    figure = FIGURES["score_by_parameters"](study)
    assert figure is not None
    (front,) = [trace for trace in figure.data if trace.name == "Pareto front"]
    assert max(front.y) < 92
    bare = FIGURES["score_by_parameters"](study_of(*untuned))
    assert bare is not None
    assert "Pareto front" not in [trace.name for trace in bare.data]
    page = payload(study, "")
    ((test,), by_title) = page["tests"], {entry["title"]: entry for entry in page["cells"]}
    assert len(test["cells"]) == 3
    assert by_title["m0 r=8 qv"]["untuned"] == "at its published rate"
    assert by_title["m0 r=8 qv"]["tune"].startswith("python -m bench.run model=minilm task=sst2 method=m0")
    assert by_title["lora r=8 qv"]["untuned"] is None
    assert [row[2] for row in by_title["lora r=8 qv"]["race"]].count("finished") == 3


def test_a_note_states_the_rule_of_the_race() -> None:
    (note,) = [note for note in made("cells", cell(0.9)).notes if note.startswith("Tuned by a race")]
    assert note == (
        "Tuned by a race: 7 candidates half a decade apart around the published rate, up to 2 more where the best is "
        "at an edge; each trains half of the schedule on seed 1000, the best 3 train all of it, and the lowest loss on "
        "select wins."
    )


def test_a_smaller_rule_is_noted_with_the_whole_rule() -> None:
    quick = [*cell(0.9, tuned=False), race_record(rule={"candidates": 5, "finalists": 2})]
    (note,) = [note for note in made("cells", quick).notes if note.startswith("Tuned by a race")]
    assert "5 candidates half a decade apart" in note
    assert note.endswith("the quick rule (protocol=quick); use protocol=standard for the whole rule.")
    notes = [note for note in made("cells", quick, cell(0.8, method="ia3")).notes if note.startswith("Tuned by a race")]
    assert [note.split(":")[0] for note in notes] == ["Tuned by a race, ia3 r=8 qv", "Tuned by a race, lora r=8 qv"]


def test_the_table_of_rates_has_every_candidate_with_its_lowest_loss() -> None:
    race = race_record(3.16e-3, outcomes={1e-2: "diverged", 3.16e-2: "oom"})
    table = made("rates", [*cell(0.9, tuned=False), race], cell(0.8, method="ia3", tuned=False))
    ((_, row),) = rows_of(table).items()
    assert (row["published"], row["chosen"]) == ("0.001", "0.00316")
    assert [row[head] for head in ("x0.032", "x0.1", "x0.32", "x1", "x3.2", "x10", "x32")] == [
        "(2.400)", "(1.900)", "(1.400)", "0.900", "0.400", "DIVERGED", "OOM",
    ]  # fmt: skip
    assert row["x3.2"].standing == BEST  # type: ignore[attr-defined]
    assert TABLES["rates"](study_of(cell(0.9, tuned=False)), "report_score") is None


def test_races_are_drawn_for_cells_without_other_rates() -> None:
    ranks = [cell(0.8, 0.9, rank=rank, method="lora") for rank in (1, 8, 64)]
    figure = FIGURES["learning_rates"](study_of(*ranks, cell(0.9, method="full", rank=None, target=None)))
    assert figure is not None
    assert len(figure.data) == 4
    assert len({trace.line.color for trace in figure.data}) == 4
    (line,) = [trace for trace in figure.data if trace.name == "lora r=8 qv"]
    assert (line.x[3], line.y[3], line.marker.symbol[3]) == (1e-3, 0.4, "circle")
    assert line.marker.symbol[0] == "circle-open"
    assert figure.layout.yaxis.title.text.startswith("lowest loss on select")


def test_methods_at_budget_holds_the_cells_whose_rank_the_budget_chose() -> None:
    def at(budget: int | None, *rights: float, **more: Any) -> list[Record]:
        return configured(cell(*rights, **more), match_params=budget)

    cells = [
        at(8000, 0.7, method="lora", rank=8, trainable=8_770),
        at(8000, 0.9, method="adapter", rank=5, target=None, trainable=8_270),
        at(None, 0.8, method="dora", rank=8, trainable=8_670),  # recorded before the budget was set
        at(None, 0.8, method="dora", rank=7, trainable=8_070),  # smaller than necessary
        at(None, 0.8, method="lora", rank=64, trainable=70_770),
        at(None, 0.8, method="head", rank=None, target=None, trainable=770),
    ]
    body = made("methods_at_budget", *cells).body
    assert body[["budget", "method", "rank", "trained below the head"]].to_numpy().tolist() == [
        ["8,000", "adapter", "5", "7,500"],
        ["8,000", "dora", "8", "7,900"],
        ["8,000", "lora", "8", "8,000"],
    ]
    assert TABLES["methods_at_budget"](study_of(*cells[2:]), "report_score") is None


def test_a_run_shows_only_the_races_behind_its_trials(ask: Ask, tmp_path: Path) -> None:
    trials = [record_of(seed=seed, lr=lr, report=0.7 + lr) for lr in (1e-3, 1e-2) for seed in range(2)]
    store(tmp_path, probe_of(), race_record(1e-2), *trials)
    remember(tmp_path, *trials[2:])
    assert "tuned (7 rates) 71.0 +- 0.0 (2)" in ask("run=last")[1]
    remember(tmp_path, *trials[:2])  # at a given rate, regardless of the race
    assert "one rate, untuned 70.1 +- 0.0 (2)" in ask("run=last")[1]
    remember(tmp_path, probe_of())  # a run that has requested no trial yet
    assert "race" in ask("run=last", "table=rates")[1]


def test_a_run_with_an_unfinished_race_is_to_be_resumed(ask: Ask, tmp_path: Path) -> None:
    store(tmp_path, probe_of(), replace(race_record(None), outcome="interrupted"))
    remember(tmp_path, probe_of())
    text = ask("run=last")[1]
    assert "INTERRUPTED" in text
    assert "Next, train what is missing" in text


def test_all_files_are_written_from_a_folder_with_races(ask: Ask, tmp_path: Path) -> None:
    tuned, untuned = tuned_and_untuned()
    store(tmp_path, *(record for records in [*tuned, *untuned] for record in records))
    assert ask()[0] == 0
    page = (tmp_path / "minilm" / "sst2" / "table.md").read_text()
    assert page.count("tuned (7 rates)") == 3
    assert "## rates: minilm on sst2" in (tmp_path / "minilm" / "tables.md").read_text()
    header = (tmp_path / "minilm" / "sst2" / "table.csv").read_text().splitlines()[0].split(",")
    assert {"tuning", "rates", "flags"} <= set(header)


def test_the_whole_rule_equals_that_of_the_standard_protocol() -> None:
    (cell,) = grid.cells([], multirun=False)
    assert cell.rule is not None
    assert cell.rule.candidates == WHOLE
