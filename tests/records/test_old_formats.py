"""Records and saved adapters of earlier versions stay readable.

There is a record and a saved adapter of each kind. They were written before the arithmetic and the names of functions
became part of a cell's identity.

tests/fixtures/old was written in its own folder by commit 8db02e8, with a random two-layer BERT in model/:

    python -m bench.run -m method=adapter,lora model.name=model task=sst2 task.path=texts task.select_rows=24 \\
        protocol=smoke protocol.train_rows=96 protocol.epochs=8 protocol.batch=8 protocol.max_length=16 rank=2 \\
        'lrs=[2e-2]' 'seeds=[0]' track=off results_dir=records save_dir=kept save=adapter cache_dir=cache
"""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.inference import answerer
from bench.inference.answerer import Answerer
from bench.inference.requests import Request
from bench.records import record as records
from bench.records.record import Record
from bench.report.__main__ import cli

OLD = REPOSITORY / "tests" / "fixtures" / "old"
METHODS = ("adapter", "lora")
SAME_CELL = [
    "model.name=model", "task=sst2", "task.path=texts", "task.select_rows=24", "protocol=smoke", "rank=2", "track=off",
    "protocol.train_rows=96", "protocol.epochs=8", "protocol.batch=8", "protocol.max_length=16",
]  # fmt: skip


def trial(method: str) -> Record:
    (path,) = (OLD / "records").glob(f"*/*/{method}-*/lr*.json")
    return records.read(path)


def now(method: str) -> Cell:
    (cell,) = cells([*SAME_CELL, f"method={method}"], multirun=False)
    return cell


@pytest.mark.parametrize("method", METHODS)
def test_an_old_adapter_answers_as_it_did(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(OLD)
    record = trial(method)
    with (OLD / "texts" / "dev.tsv").open(encoding="utf-8") as file:
        texts = [row["sentence"] for row in csv.DictReader(file, delimiter="\t")]
    labels = record.config["task"]["labels"]
    answers = [answer.answer for answer in Answerer(record)([Request(text) for text in texts])]
    expected = [labels[number] for number in (record.predictions or {})["report"]]
    assert set(answers) == set(labels)
    # The adapters were trained in bf16, which another CPU may round differently.
    assert sum(actual == wanted for actual, wanted in zip(answers, expected, strict=True)) >= len(texts) - 1


@pytest.mark.parametrize("method", METHODS)
def test_an_old_record_belongs_to_another_cell_than_todays(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(OLD)
    old, cell = trial(method), now(method)
    assert old.identity["model"] == cell.identity["model"]
    assert old.cell["title"] == cell.title
    assert old.cell["id"] != cell.id


def test_old_records_are_listed_separately_from_todays_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old records are shown with their own settings, next to the same cells of today."""
    monkeypatch.chdir(OLD)
    for method in METHODS:
        old, cell = trial(method), now(method)
        renamed = old.cell | {"id": cell.id}
        new = replace(old, cell=renamed, identity=cell.identity, config=cell.config)
        records.write(tmp_path / "model" / "sst2" / f"{method}-{old.cell['id']}" / "lr0.02-seed0.json", old)
        records.write(tmp_path / "model" / "sst2" / f"{method}-{cell.id}" / "lr0.02-seed0.json", new)
    assert cli([f"results_dir={tmp_path}"]) == 0
    page = (tmp_path / "model" / "sst2" / "table.md").read_text(encoding="utf-8")
    assert page.count("| adapter ") == page.count("| lora ") == 2
    notes = [line for line in page.splitlines() if "not to be compared with the others" in line]
    assert len(notes) == 2
    assert 'precision="auto"' in notes[0] + notes[1]
    assert f'precision="{now("lora").precision}"' in notes[0] + notes[1]
    assert capsys.readouterr().err == ""


def test_an_old_record_may_name_a_removed_speedup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(OLD)
    record = trial("lora")
    fast = {"linear": "torch", "last_layer": "read", "gone": 1}
    cell = answerer._cell_of(replace(record, config={**record.config, "fast": fast}))
    assert (cell.conf.fast.linear.value, cell.conf.fast.attention.value) == ("torch", "own")
