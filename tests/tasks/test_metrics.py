"""GLUE's metrics: equal to scikit-learn and scipy, zero where undefined, and loadable by `evaluate`."""

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
TRUE, PREDICTED = RANDOM.integers(0, 2, 200), RANDOM.integers(0, 2, 200)
MANY, MANY_PREDICTED = RANDOM.integers(0, 4, 200), RANDOM.integers(0, 4, 200)
NUMBERS = RANDOM.normal(size=200).astype(np.float32)
NOISY = (NUMBERS + RANDOM.normal(size=200)).astype(np.float32)


def scored(name: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    return score(name, torch.from_numpy(predictions), torch.from_numpy(labels))


def test_each_metric_equals_scikit_learn_or_scipy() -> None:
    assert scored("accuracy", PREDICTED, TRUE) == pytest.approx(np.mean(PREDICTED == TRUE), abs=1e-12)
    assert scored("f1", PREDICTED, TRUE) == pytest.approx(metrics.f1_score(TRUE, PREDICTED), abs=1e-12)
    assert scored("macro_f1", MANY_PREDICTED, MANY) == pytest.approx(
        metrics.f1_score(MANY, MANY_PREDICTED, average="macro"), abs=1e-12
    )
    for true, predicted in ((TRUE, PREDICTED), (MANY, MANY_PREDICTED)):
        expected = metrics.matthews_corrcoef(true, predicted)
        assert scored("matthews_correlation", predicted, true) == pytest.approx(expected, abs=1e-12)
    assert scored("pearson", NOISY, NUMBERS) == pytest.approx(stats.pearsonr(NUMBERS, NOISY).statistic, abs=1e-6)
    assert scored("spearman", NOISY, NUMBERS) == pytest.approx(stats.spearmanr(NUMBERS, NOISY).statistic, abs=1e-6)


def test_f1_scores_the_second_label_as_positive() -> None:
    true, predicted = np.array([1, 1, 0, 0, 0]), np.array([1, 0, 0, 0, 1])
    assert scored("f1", predicted, true) == pytest.approx(0.5)  # precision 1/2, recall 1/2
    assert scored("f1", 1 - predicted, 1 - true) == pytest.approx(2 / 3)


def test_unparseable_answers_count_as_wrong_and_not_as_a_class() -> None:
    true, predicted = np.array([1, 1, 0, 0]), np.array([1, -1, 0, -1])
    assert scored("accuracy", predicted, true) == pytest.approx(0.5)
    assert scored("f1", predicted, true) == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert scored("macro_f1", predicted, true) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [metric.value for metric in Metric])
def test_undefined_metrics_are_zero(name: str) -> None:
    kind = np.float32 if Metric(name).of_numbers else np.int64
    assert scored(name, np.zeros(6, kind), np.array([0, 1, 0, 1, 0, 1], kind)) == {
        "accuracy": 0.5,
        "macro_f1": pytest.approx(1 / 3),
    }.get(name, 0.0)


def test_evaluate_loads_the_module_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))
    metric = evaluate.load(str(MODULE), "f1", cache_dir=str(tmp_path))
    assert metric.compute(predictions=[1, 0, 1], references=[1, 0, 0]) == {"f1": pytest.approx(2 / 3)}
