"""What the note on the protocol says: how long, at what rates, and how LoRA's update is scaled."""

from dataclasses import replace
from typing import Any

import pytest
from sample_records import record_of

from bench.records.record import Record
from bench.report.record_frame import Study
from bench.report.tables.notes import notes_of


def noted(*found: Record) -> str:
    study = Study.of(found)
    return "\n".join(notes_of(study, study.cells))


def scaled(name: str, alpha: int, *, root: bool, lr: float) -> Record:
    record = record_of(lr=lr)
    scale: dict[str, Any] = {"name": name, "alpha": alpha, "root": root}
    used = None if name == "rank" else name
    return replace(record, cell=record.cell | {"scale": used}, config=record.config | {"scale": scale})


@pytest.mark.parametrize(("protocol", "words"), [
    ({}, "1 epochs over all rows, batch 32, weight decay 0.01, warm-up 0.06, clip 1.0"),
    ({"steps": None, "epochs": 3}, "3 epochs over all rows"),
    ({"steps": 500, "epochs": 3}, "500 steps over all rows"),
    ({"head_lr": 1e-3}, "batch 32, head's learning rate 0.001, weight decay"),
    ({"warmup_steps": 20}, "warm-up 20 steps, clip"),
    ({"warmup_steps": 0}, "warm-up 0 steps, clip"),
    ({"eval_steps": 50}, "clip 1.0, select evaluated every 50 steps;"),
])  # fmt: skip
def test_the_protocols_note_says_what_was_used(protocol: dict[str, Any], words: str) -> None:
    assert words in noted(record_of(**protocol))


def test_the_method_head_is_named_as_the_exception() -> None:
    record = record_of(head_lr=1e-3)
    linear = replace(record_of(method="head", head_lr=1e-3), config=record.config | {"method": {"head_at_lr": True}})
    assert "head's learning rate 0.001, weight" in noted(record)
    assert "head's learning rate 0.001 (method head: its own), weight" in noted(record, linear)


def test_a_head_that_is_not_there_has_no_rate() -> None:
    record = record_of()
    spoken = replace(record, config=record.config | {"protocol": record.config["protocol"] | {"head_lr": 1e-3}})
    assert "head's" not in noted(spoken)


def test_a_scale_is_explained_where_it_is_not_alpha_over_rank() -> None:
    rank, root = scaled("rank", 8, root=False, lr=1e-3), scaled("sqrt", 32, root=True, lr=2e-3)
    assert "Scale" not in noted(rank)
    meant = "sqrt is alpha = 32 divided by sqrt(r); the default is alpha = r, divided by r."
    assert f"Scale of LoRA's update: {meant}" in noted(rank, root)
    fixed = scaled("fixed", 16, root=False, lr=1e-3)
    assert "fixed is alpha = 16 divided by r, sqrt is alpha = 32 divided by sqrt(r)" in noted(fixed, root)
