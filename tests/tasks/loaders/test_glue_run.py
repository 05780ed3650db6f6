"""GLUE's kinds of tasks from files to records: pairs, a regression, two validation sets; alone and in packs."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from sklearn import metrics
from test_glue_layouts import written

from bench.config.compose import cells
from bench.records import record as records
from bench.records.record import Record
from bench.report.__main__ import cli
from bench.runner.build import load_data

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(inline: Run, tiny_bert: Path, tmp_path: Path) -> Callable[..., list[Record]]:
    """Train LoRA on a task in the archive's layout; gives the records of the trials."""

    def call(task: str, *words: str) -> list[Record]:
        if not (tmp_path / task).exists():
            written(task, tmp_path / task)
        given = [f"model.name={tiny_bert}", f"task={task}", f"task.path={tmp_path / task / 'archive'}", "method=lora"]
        small = [
            "task.select_rows=12",
            "protocol=smoke",
            "protocol.max_length=32",
            "rank=4",
            "precision=fp32",
            "track=off",
        ]
        where = [f"results_dir={tmp_path / 'results'}", f"cache_dir={tmp_path / 'cache'}"]
        done = inline(*given, *small, *where, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        found = records.read_all(tmp_path / "results", pytest.fail)
        return [record for record in found if record.kind == "trial" and record.cell["task"] == task]

    return call


def found(record: Record, part: str = "report") -> Any:
    assert record.outcome == "ok"
    assert record.predictions is not None
    return record.predictions[part]


def scores(record: Record) -> dict[str, Any]:
    assert record.scores is not None
    return record.scores


def test_a_regression_predicts_numbers_and_is_scored_by_correlation(run: Callable[..., list[Record]]) -> None:
    truth = [round(5 * row / 60, 3) for row in range(60)]
    for record in run("stsb", "seeds=[0]"):
        told = scores(record)
        assert told["metric"] == "pearson"
        expected = {
            "pearson": stats.pearsonr(found(record), truth)[0],
            "spearman": stats.spearmanr(found(record), truth)[0],
        }
        assert told["all"]["report"] == pytest.approx(expected, abs=1e-5)
        assert told["report"] == told["all"]["report"]["pearson"]
        assert len(set(found(record))) > 2


def test_pairs_are_scored_by_each_metric(run: Callable[..., list[Record]], tmp_path: Path, capfd: Any) -> None:
    truth = [row % 2 for row in range(60)]
    (record,) = run("mrpc", "seeds=[0]")
    expected = {
        "accuracy": metrics.accuracy_score(truth, found(record)),
        "f1": metrics.f1_score(truth, found(record)),
    }
    assert scores(record)["all"]["report"] == pytest.approx(expected)
    (record,) = run("cola", "seeds=[0]")
    assert scores(record)["metric"] == "matthews_correlation"
    assert cli([f"results_dir={tmp_path / 'results'}", "task=cola"]) == 0
    assert "matthews correlation %" in " ".join(capfd.readouterr().out.split())


def test_the_mismatched_set_is_scored_beside_the_matched_one(run: Callable[..., list[Record]]) -> None:
    (record,) = run("mnli", "seeds=[0]")
    assert set(scores(record)["all"]) == {"select", "report", "mismatched"}
    truth = [row % 3 for row in range(60)]
    for part in ("report", "mismatched"):
        right = sum(one == other for one, other in zip(found(record, part), truth, strict=True)) / 60
        assert scores(record)["all"][part]["accuracy"] == pytest.approx(right)
    assert scores(record)["report"] == scores(record)["all"]["report"]["accuracy"]


@pytest.mark.parametrize("task", ["stsb", "rte"])
def test_packs_of_pairs_and_numbers_end_where_trials_end_alone(task: str, run: Callable[..., list[Record]]) -> None:
    words = ("lrs=[1e-3,1e-2]", "seeds=[0,1]")
    together = {str(record.trial): record for record in run(task, *words, "pack=4")}
    for record in run(task, *words, "pack=1", "force=true"):
        other = together[str(record.trial)]
        assert other.cost is not None
        assert other.cost["pack"] == 4, other.cost["pack_why"]
        assert record.curve is not None
        assert other.curve is not None
        assert other.curve["loss"] == pytest.approx(record.curve["loss"], abs=1e-5)
        assert found(other) == pytest.approx(found(record), abs=1e-5)


def test_a_bert_is_told_which_text_a_token_belongs_to(tiny_bert: Path, tmp_path: Path) -> None:
    written("rte", tmp_path)
    words = [f"model.name={tiny_bert}", "task=rte", f"task.path={tmp_path / 'archive'}", "task.select_rows=12"]
    (cell,) = cells([*words, "protocol.max_length=32", f"cache_dir={tmp_path / 'cache'}"], multirun=False)
    rows = load_data(cell).report
    assert rows.types is not None
    start, length = int(rows.starts[3]), int(rows.lengths[3])
    ids, types = rows.ids[start : start + length], rows.types[start : start + length]
    first = int((ids == 3).nonzero()[0]) + 1  # [SEP]
    assert types.tolist() == [0] * first + [1] * (length - first)
    again = load_data(cell).report.types  # from the cache
    assert again is not None
    assert torch.equal(again, rows.types)
