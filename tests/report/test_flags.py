"""Flags mark what a reviewer would question. Each is set only by its own cause and explained where it appears."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_records import race_record, record_of, store
from test_manifest import remember
from test_tables import cell, made
from test_tuning import study_of

from bench.records.record import Record
from bench.report.__main__ import cli
from bench.report.dashboard.dashboard import payload
from bench.report.flags import FLAGS
from bench.report.record_frame import Study

Change = Callable[[Record], Record]


def changed(records: list[Record], change: Change) -> list[Record]:
    """Return the records with every trial changed."""
    return [change(record) if record.trial else record for record in records]


def rising(mean: float | None, error: float | None) -> Change:
    rise = None if mean is None else {"mean": mean, "standard_error": error}
    return lambda record: replace(record, scores={**(record.scores or {}), "rise": rise})


def answering(*answers: Any, metric: str = "accuracy") -> Change:
    return lambda record: replace(
        record,
        predictions={"select": [0, 1], "report": [*answers]},
        scores={**(record.scores or {}), "metric": metric},
    )


def flags_of(*records: Record) -> str | None:
    (flags,) = Study.of(records).cells["flags"]
    return None if flags is None or flags != flags else str(flags)  # noqa: PLR0124 - NaN


def at(lr: float, **race: Any) -> list[Record]:
    trials = [record_of(seed=seed, lr=lr) for seed in range(3)]
    return [*trials, race_record(lr, **race)]


@pytest.mark.parametrize(("lr", "expected"), [
    (3.16e-5, "edge"), (3.16e-2, "edge"), (1e-4, None), (1e-2, None),
])  # fmt: skip
def test_edge_is_the_lowest_or_highest_candidate(lr: float, expected: str | None) -> None:
    assert flags_of(*at(lr)) == expected


def test_a_rate_next_to_a_diverged_rate_is_at_no_edge() -> None:
    assert flags_of(*at(1e-2, outcomes={3.16e-2: "diverged"})) is None


def test_a_rate_without_a_search_is_at_no_edge() -> None:
    assert flags_of(record_of(lr=1e-3)) is None


@pytest.mark.parametrize(("rises", "expected"), [
    ([(0.03, 0.01), (0.02, 0.01)], "rising"),
    ([(0.05, 0.01), (-0.04, 0.01)], None),  # the mean over seeds counts
    ([(-0.05, 0.01)], None),  # the loss rose again
    ([(None, None)], None),
    ([(0.03, 0.01), (None, None)], "rising"),
])  # fmt: skip
def test_rising_is_a_loss_that_still_fell_by_more_than_its_standard_error(
    rises: list[tuple[float | None, float | None]], expected: str | None
) -> None:
    trials = [rising(*rise)(record_of(seed=seed)) for seed, rise in enumerate(rises)]
    assert flags_of(*trials, race_record()) == expected


@pytest.mark.parametrize(("answers", "metric", "expected"), [
    ([1, 1, 1], "accuracy", "constant"), ([1, 1, 0], "accuracy", None), ([2.5, 2.5, 2.5], "pearson", None),
])  # fmt: skip
def test_constant_is_a_trial_that_predicts_a_single_class(
    answers: list[Any], metric: str, expected: str | None
) -> None:
    first = answering(*answers, metric=metric)(record_of())
    second = answering(0, 1, 0, metric=metric)(record_of(seed=1))
    assert flags_of(first, second, race_record()) == expected


def test_a_constant_trial_at_another_rate_does_not_flag_the_row() -> None:
    constant = answering(1, 1)(record_of(lr=1e-2, select=0.1))
    assert flags_of(record_of(), constant, race_record()) is None
    assert flags_of(record_of(), constant) is None
    assert flags_of(constant) == "constant"


def probed(*, tuned: bool) -> Study:
    head = cell(0.7, 0.7, method="head", rank=None, target=None, tuned=tuned)
    low, high = (cell(right, right, method=name) for name, right in (("lora", 0.6), ("ia3", 0.8)))
    return study_of(head, low, high, cell(0.5, 0.5, method="lora", dropout=0.1))


def test_below_head_needs_a_tuned_probe_of_the_same_table() -> None:
    def flagged(study: Study) -> list[float]:
        return sorted(study.cells.loc[study.cells["flags"] == "below head", "report_score"].tolist())

    assert flagged(probed(tuned=True)) == [0.6]
    assert flagged(probed(tuned=False)) == []


def test_a_method_without_training_is_not_compared_with_the_probe() -> None:
    shots = [record_of(method="few_shot", lr=None, rank=None, target=None, report=0.5)]  # type: ignore[arg-type]
    study = study_of(cell(0.7, 0.7, method="head", rank=None, target=None), shots)
    assert study.cells["flags"].isna().all()


def test_a_missing_probe_is_noted_once() -> None:
    def notes(*cells: list[Record]) -> list[str]:
        return [note for note in made("cells", *cells).notes if "below head is unknown" in note]

    head = cell(0.7, 0.7, method="head", rank=None, target=None)
    assert len(notes(cell(0.9), cell(0.8, method="ia3"))) == 1
    assert notes(cell(0.9), cell(0.8, method="ia3"), head) == []
    assert notes(head) == []


def flagged() -> list[list[Record]]:
    """Return a cell with every flag, a cell that is only rising, and two cells without flags."""
    head = cell(0.8, 0.8, 0.8, method="head", rank=None, target=None, offset=40)
    every = changed(cell(0.6, 0.6, 0.6, method="lora", rank=8, tuned=False), rising(0.1, 0.01))
    every = changed(every, answering(*[1] * 400))
    every = [replace(record, trial={**record.trial, "lr": 3.16e-2}) if record.trial else record for record in every]
    return [
        [*every, race_record(3.16e-2, method="lora", rank=8)],
        changed(cell(0.92, 0.92, 0.92, method="lora", rank=1), rising(0.1, 0.01)),
        cell(0.9, 0.9, 0.9, method="ia3", rank=1, offset=20),
        head,
    ]


ALL = "edge, rising, constant, below head"


def test_a_table_of_cells_has_a_column_of_flags_and_explains_each_once() -> None:
    table = made("cells", *flagged())
    by_title = dict(zip(zip(table.body["method"], table.body["rank"], strict=True), table.body["flags"], strict=True))
    assert by_title == {("lora", "8"): ALL, ("lora", "1"): "rising", ("ia3", "1"): "-", ("head", "-"): "-"}
    for flag, meaning in FLAGS.items():
        assert [note for note in table.notes if note.startswith("Flag")].count(f"Flag {flag}: {meaning}.") == 1
    assert "flags" in made("methods", *flagged()).body
    assert "flags" not in made("cells", cell(0.9), cell(0.8, method="ia3")).body


def test_a_table_by_rank_notes_its_flagged_cells() -> None:
    notes = made("rank_by_target", *flagged()).notes
    assert f"Flag rising (lora r=1 qv, lora r=8 qv): {FLAGS['rising']}." in notes
    assert f"Flag edge (lora r=8 qv): {FLAGS['edge']}." in notes


def test_compare_recommend_run_and_page_explain_the_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = [record for records in flagged() for record in records]
    store(tmp_path, *stored)
    remember(tmp_path, *stored)
    first, second = (next(record.cell["id"] for record in records) for records in flagged()[:2])
    for arguments, flags in (
        (["compare", f"a={first}", f"b={second}"], FLAGS),
        (["recommend"], ["rising"]),
        (["run=last"], ["rising"]),
    ):
        assert cli([*arguments, f"results_dir={tmp_path}"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert all(f"is flagged {flag}: {FLAGS[flag]}." in text for flag in flags), arguments
    page = payload(study_of(*flagged()), "")
    flags_by_title = {entry["title"]: entry["flagged"] for entry in page["cells"]}
    assert flags_by_title["lora r=8 qv"] == [f"{flag}: {meaning}" for flag, meaning in FLAGS.items()]
    assert flags_by_title["ia3 r=1 qv"] == []
    assert f"Flag edge: {FLAGS['edge']}." in page["notes"]
