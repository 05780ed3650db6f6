"""The note on the protocol: training length, rates, and the scale of LoRA's update."""

from dataclasses import replace
from typing import Any

import pytest
from sample_records import record_of

from bench.records.record import Record
from bench.report.record_frame import Study
from bench.report.tables.notes import notes_of


def noted(*records: Record) -> str:
    study = Study.of(records)
    return "\n".join(notes_of(study, study.cells))


def scaled(name: str, alpha: int, *, root: bool, lr: float) -> Record:
    record = record_of(lr=lr)
    scale: dict[str, Any] = {"name": name, "alpha": alpha, "root": root}
    used = None if name == "rank" else name
    return replace(record, cell=record.cell | {"scale": used}, config=record.config | {"scale": scale})


@pytest.mark.parametrize(("protocol", "words"), [
    ({}, "1 epoch over all rows, batch 32, weight decay 0.01, warm-up 0.06, clip 1.0"),
    ({"steps": None, "epochs": 3}, "3 epochs over all rows"),
    ({"steps": 500, "epochs": 3}, "500 steps over all rows"),
    ({"head_lr": 1e-3}, "batch 32, head's learning rate 0.001, weight decay"),
    ({"warmup_steps": 20}, "warm-up 20 steps, clip"),
    ({"warmup_steps": 0}, "warm-up 0 steps, clip"),
    ({"eval_steps": 50}, "clip 1.0, select evaluated every 50 steps;"),
])  # fmt: skip
def test_the_protocol_note_states_the_used_settings(protocol: dict[str, Any], words: str) -> None:
    assert words in noted(record_of(**protocol))


def test_the_rate_of_the_method_head_is_named_as_an_exception() -> None:
    record = record_of(head_lr=1e-3)
    linear = replace(record_of(method="head", head_lr=1e-3), config=record.config | {"method": {"head_at_lr": True}})
    assert "head's learning rate 0.001, weight" in noted(record)
    assert "head's learning rate 0.001 (method head: its own), weight" in noted(record, linear)


def test_a_missing_head_has_no_rate() -> None:
    record = record_of()
    headless = replace(record, config=record.config | {"protocol": record.config["protocol"] | {"head_lr": 1e-3}})
    assert "head's" not in noted(headless)


def test_a_scale_other_than_alpha_over_rank_is_explained() -> None:
    rank, root = scaled("rank", 8, root=False, lr=1e-3), scaled("sqrt", 32, root=True, lr=2e-3)
    assert "Scale" not in noted(rank)
    explanation = "sqrt is alpha = 32 divided by sqrt(r); the default is alpha = r, divided by r."
    assert f"Scale of LoRA's update: {explanation}" in noted(rank, root)
    fixed = scaled("fixed", 16, root=False, lr=1e-3)
    assert "fixed is alpha = 16 divided by r, sqrt is alpha = 32 divided by sqrt(r)" in noted(fixed, root)
