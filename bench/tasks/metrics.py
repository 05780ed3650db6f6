"""GLUE's metrics, as a module of the `evaluate` library that needs no network.

To get the same metric outside of this package, call evaluate.load("path/to/bench/tasks/metrics.py", "f1").
"""

import math
import warnings
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import evaluate
from scipy import stats
from sklearn import metrics
from torch import Tensor

from bench.config.enums import Metric


class Metrics(evaluate.Metric):  # type: ignore[misc]
    """One metric, selected by `config_name`, which is a value of bench.config.enums.Metric."""

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float32" if Metric(self.config_name).of_numbers else "int64")
        return evaluate.MetricInfo(
            description="GLUE's metrics (Wang et al. 2018), by scikit-learn and scipy.",
            citation="",
            inputs_description="predictions: labels or numbers. references: the true ones.",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        # Unparseable answers are -1. They count as wrong, but are not a class that f1 averages over.
        classes = sorted({label for label in [*references, *predictions] if label >= 0})
        compute = {
            "accuracy": lambda: metrics.accuracy_score(references, predictions),
            "f1": lambda: metrics.f1_score(references, predictions, labels=[1], average="macro", zero_division=0),
            "macro_f1": lambda: metrics.f1_score(
                references, predictions, labels=classes, average="macro", zero_division=0
            ),
            "matthews_correlation": lambda: metrics.matthews_corrcoef(references, predictions),
            "pearson": lambda: stats.pearsonr(predictions, references).statistic,
            "spearman": lambda: stats.spearmanr(predictions, references).statistic,
        }
        return {self.config_name: float(compute[self.config_name]())}


def score(name: str, predictions: Tensor, labels: Tensor) -> float:
    """Score the predictions for one part of the data.

    A correlation is undefined if all predictions are equal. It then counts as 0.

    Args:
        name: the metric, a value of bench.config.enums.Metric.
        predictions: [rows], on the CPU.
        labels: [rows], on the CPU.
    """
    with TemporaryDirectory() as unused, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an undefined score shows in the result as NaN
        metric = Metrics(name, keep_in_memory=True, cache_dir=unused)
        value = metric.compute(predictions=predictions.numpy(), references=labels.numpy())[name]
    return 0.0 if math.isnan(value) else float(value)
