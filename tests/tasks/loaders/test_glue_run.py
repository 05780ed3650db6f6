"""GLUE's kinds of tasks from files to records: pairs, a regression, and two validation sets, packed and unpacked."""

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
    """Train LoRA on a task in the archive's layout and return the records of its trials."""

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
        stored = records.read_all(tmp_path / "results", pytest.fail)
        return [record for record in stored if record.kind == "trial" and record.cell["task"] == task]

    return call


def predictions(record: Record, part: str = "report") -> Any:
    assert record.outcome == "ok"
    assert record.predictions is not None
    return record.predictions[part]


def scores(record: Record) -> dict[str, Any]:
    assert record.scores is not None
    return record.scores


def test_a_regression_predicts_numbers_and_is_scored_by_correlation(run: Callable[..., list[Record]]) -> None:
    truth = [round(5 * row / 60, 3) for row in range(60)]
    for record in run("stsb", "seeds=[0]"):
        recorded = scores(record)
        assert recorded["metric"] == "pearson"
        expected = {
            "pearson": stats.pearsonr(predictions(record), truth)[0],
            "spearman": stats.spearmanr(predictions(record), truth)[0],
        }
        assert recorded["all"]["report"] == pytest.approx(expected, abs=1e-5)
        assert recorded["report"] == recorded["all"]["report"]["pearson"]
        assert len(set(predictions(record))) > 2


def test_pairs_are_scored_by_each_metric(run: Callable[..., list[Record]], tmp_path: Path, capfd: Any) -> None:
    truth = [row % 2 for row in range(60)]
    (record,) = run("mrpc", "seeds=[0]")
    expected = {
        "accuracy": metrics.accuracy_score(truth, predictions(record)),
        "f1": metrics.f1_score(truth, predictions(record)),
    }
    assert scores(record)["all"]["report"] == pytest.approx(expected)
    (record,) = run("cola", "seeds=[0]")
    assert scores(record)["metric"] == "matthews_correlation"
    assert cli([f"results_dir={tmp_path / 'results'}", "task=cola"]) == 0
    assert "matthews correlation %" in " ".join(capfd.readouterr().out.split())


def test_mnli_scores_the_matched_and_the_mismatched_set(run: Callable[..., list[Record]]) -> None:
    (record,) = run("mnli", "seeds=[0]")
    assert set(scores(record)["all"]) == {"select", "report", "mismatched"}
    truth = [row % 3 for row in range(60)]
    for part in ("report", "mismatched"):
        right = (
            sum(predicted == actual for predicted, actual in zip(predictions(record, part), truth, strict=True)) / 60
        )
        assert scores(record)["all"][part]["accuracy"] == pytest.approx(right)
    assert scores(record)["report"] == scores(record)["all"]["report"]["accuracy"]


@pytest.mark.parametrize("task", ["stsb", "rte"])
def test_packed_trials_of_pairs_and_numbers_equal_single_trials(task: str, run: Callable[..., list[Record]]) -> None:
    words = ("lrs=[1e-3,1e-2]", "seeds=[0,1]")
    together = {str(record.trial): record for record in run(task, *words, "pack=4")}
    for record in run(task, *words, "pack=1", "force=true"):
        other = together[str(record.trial)]
        assert other.cost is not None
        assert other.cost["pack"] == 4, other.cost["pack_why"]
        assert record.curve is not None
        assert other.curve is not None
        assert other.curve["loss"] == pytest.approx(record.curve["loss"], abs=1e-5)
        assert predictions(other) == pytest.approx(predictions(record), abs=1e-5)


def test_token_types_tell_bert_the_two_texts_apart(tiny_bert: Path, tmp_path: Path) -> None:
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
