"""Each speedup alone reproduces the losses that were recorded before any speedup existed.

tests/golden/losses.tsv was written by commit a44fb2f from the records of

    python -m bench.run -m method=full,lora,adapter,prefix rank=8 precision=fp32 'seeds=[0]' track=off \\
        protocol.epochs=1 protocol.train_rows=160 protocol.batch=8 protocol.probe_steps=1

At that time the head had the trial's own rate.
"""

import csv
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from small_trials import FP32

from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.events import Ended, Event, Stepped
from bench.models.speed.speedups import Fast
from bench.runner.build import load_data, recipe_of
from bench.runner.packing import Trials
from bench.runner.setup import CellSetup
from bench.tasks.encoding.rows import Encoded
from bench.train.settings import Plan, Training

LOSSES = REPOSITORY / "tests" / "golden" / "losses.tsv"
SETTINGS = ["rank=8", "precision=fp32", "protocol.epochs=1", "protocol.train_rows=160", "protocol.batch=8"]
SETTINGS += ["protocol.head_lr=${method.lr}", "lrs=published"]
PLAIN = Fast("torch", "all")
CPU = torch.device("cpu")
WAYS: dict[str, tuple[Fast, list[str]]] = {
    "plain": (PLAIN, ["seeds=[0]"]),
    "onednn": (Fast("onednn", "all"), ["seeds=[0]"]),
    "last layer where it is read": (Fast("torch", "read"), ["seeds=[0]"]),
    "packed": (PLAIN, ["seeds=[0,1]", "pack=2"]),
    "in parts": (PLAIN, ["seeds=[0]", "protocol.micro=3"]),
    "packed, in parts": (PLAIN, ["seeds=[0,1]", "pack=2", "protocol.micro=3"]),
    "checkpointed": (PLAIN, ["seeds=[0]", "checkpointing=true"]),
    "all": (Fast("onednn", "read"), ["seeds=[0,1]", "pack=2"]),
}


@cache
def golden() -> dict[str, list[float]]:
    """Return the losses by method."""
    by_method: dict[str, list[float]] = {}
    with LOSSES.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            by_method.setdefault(row["method"], []).append(float(row["loss"]))
    return by_method


def losses(cell: Cell, fast: Fast) -> tuple[list[float], dict[str, Any]]:
    """Return the losses of the trial with seed 0 and the cost that its record would hold."""
    events: list[Event] = []
    whole = load_data(cell)
    data = Encoded(whole.train, whole.select.first(8), whole.report.first(8))  # the losses need no more
    given = Training(data, Plan.of(cell.conf.protocol), recipe_of(cell), FP32)
    Trials(CellSetup(cell, given, fast), events.append).run(cell.trials)
    (cost,) = [event.cost for event in events if isinstance(event, Ended) and event.trial == cell.trials[0].id]
    assert cost is not None
    pieces = [event.curve for event in events if isinstance(event, Stepped) and event.trial == cell.trials[0].id]
    return [loss for piece in pieces for loss in piece["loss"]], cost


# Every way alone with LoRA; the other methods with the plain loop, and with what is particular about them.
PAIRS = [("lora", way) for way in WAYS]
PAIRS += [(method, "plain") for method in ("full", "adapter", "prefix")]
PAIRS += [("full", "checkpointed"), ("adapter", "packed, in parts"), ("prefix", "all")]


@pytest.mark.parametrize(("method", "way"), PAIRS)
def test_every_way_reproduces_the_golden_losses(method: str, way: str, tmp_path: Path) -> None:
    fast, words = WAYS[way]
    settings = [f"method={method}", *SETTINGS, *words, f"cache_dir={tmp_path}"]
    (cell,) = cells(settings, multirun=False)
    actual, cost = losses(cell, fast)
    assert len(golden()[method]) == 20
    assert actual == pytest.approx(golden()[method], rel=0, abs=1e-5)
    assert cost["pack"] == len(cell.trials)
