"""GLUE's metrics against scikit-learn and scipy, where they are not defined, and as a module of `evaluate`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from scipy import stats
from sklearn import metrics

from bench.config.enums import Metric
from bench.tasks.metrics import score

MODULE = REPOSITORY / "bench" / "tasks" / "metrics.py"
RANDOM = np.random.default_rng(0)
TRUE, FOUND = RANDOM.integers(0, 2, 200), RANDOM.integers(0, 2, 200)
MANY, MANY_FOUND = RANDOM.integers(0, 4, 200), RANDOM.integers(0, 4, 200)
NUMBERS = RANDOM.normal(size=200).astype(np.float32)
NOISY = (NUMBERS + RANDOM.normal(size=200)).astype(np.float32)


def scored(name: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    return score(name, torch.from_numpy(predictions), torch.from_numpy(labels))


def test_each_equals_scikit_learn_or_scipy() -> None:
    assert scored("accuracy", FOUND, TRUE) == pytest.approx(np.mean(FOUND == TRUE), abs=1e-12)
    assert scored("f1", FOUND, TRUE) == pytest.approx(metrics.f1_score(TRUE, FOUND), abs=1e-12)
    assert scored("macro_f1", MANY_FOUND, MANY) == pytest.approx(
        metrics.f1_score(MANY, MANY_FOUND, average="macro"), abs=1e-12
    )
    for true, found in ((TRUE, FOUND), (MANY, MANY_FOUND)):
        expected = metrics.matthews_corrcoef(true, found)
        assert scored("matthews_correlation", found, true) == pytest.approx(expected, abs=1e-12)
    assert scored("pearson", NOISY, NUMBERS) == pytest.approx(stats.pearsonr(NUMBERS, NOISY).statistic, abs=1e-6)
    assert scored("spearman", NOISY, NUMBERS) == pytest.approx(stats.spearmanr(NUMBERS, NOISY).statistic, abs=1e-6)


def test_f1_is_that_of_the_second_label_and_not_its_mirror() -> None:
    true, found = np.array([1, 1, 0, 0, 0]), np.array([1, 0, 0, 0, 1])
    assert scored("f1", found, true) == pytest.approx(0.5)  # precision 1/2, recall 1/2
    assert scored("f1", 1 - found, 1 - true) == pytest.approx(2 / 3)


def test_an_answer_that_names_no_label_is_wrong_and_no_class_of_its_own() -> None:
    true, found = np.array([1, 1, 0, 0]), np.array([1, -1, 0, -1])
    assert scored("accuracy", found, true) == pytest.approx(0.5)
    assert scored("f1", found, true) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert scored("macro_f1", found, true) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [metric.value for metric in Metric])
def test_what_is_not_defined_counts_as_nothing(name: str) -> None:
    kind = np.float32 if Metric(name).of_numbers else np.int64
    assert scored(name, np.zeros(6, kind), np.array([0, 1, 0, 1, 0, 1], kind)) == {
        "accuracy": 0.5,
        "macro_f1": pytest.approx(1 / 3),
    }.get(name, 0.0)


def test_another_program_loads_the_module_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))
    metric = evaluate.load(str(MODULE), "f1", cache_dir=str(tmp_path))
    assert metric.compute(predictions=[1, 0, 1], references=[1, 0, 0]) == {"f1": pytest.approx(2 / 3)}
