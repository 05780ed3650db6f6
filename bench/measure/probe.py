"""The cost of a cell: a few warm steps of one trial, alone in the process, before any trial trains."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.measure.memory import peak_bytes, reset_peak
from bench.measure.parameters import count
from bench.tasks.encode import Rows
from bench.train.batches import by_length, collate
from bench.train.evaluate import predict
from bench.train.optim import make_optimizer, step, trainable


def probe(model: nn.Module, train: Rows, select: Rows, protocol: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Measure warm steps over batches spread evenly over the lengths of the data; the longest has run before them.

    Gives counts of parameters; seconds per step (median, 95th percentile); samples and tokens (without padding) per
    second; peak bytes of training; seconds to evaluate the select part. The model is used up: its weights have moved.
    """
    device = next(model.parameters()).device
    cut = by_length(train, protocol["batch"])
    batches = [collate(train, numbers) for numbers in _spread(cut, protocol["probe_steps"])]
    # Once before it counts: kernels are chosen and built at the first sight of a length.
    warm = [collate(train, cut[-1]), *batches]
    parameters = trainable(model)
    optimizer = make_optimizer(model, 1e-6, protocol["weight_decay"])
    model.train()
    reset_peak(device)
    seconds = []
    for batch in [*warm, *batches]:
        began = time.perf_counter()
        step(model, batch.to(device), parameters, optimizer, protocol["clip"], dtype)
        _wait(device)
        seconds.append(time.perf_counter() - began)
    seconds = seconds[-len(batches) :]
    peaks = peak_bytes(device)
    began = time.perf_counter()
    predict(model, select, protocol["eval_batch"], device, dtype)
    eval_seconds = time.perf_counter() - began
    counts = count(model)
    return {
        "trainable_params": counts.trainable,
        "head_params": counts.head,
        "total_params": counts.total,
        "trainable_percent": counts.percent,
        **peaks,
        "step_seconds_median": float(np.median(seconds)),
        "step_seconds_p95": float(np.quantile(seconds, 0.95)),
        "samples_per_second": sum(batch.rows for batch in batches) / sum(seconds),
        "tokens_per_second": sum(batch.tokens for batch in batches) / sum(seconds),
        "eval_seconds": eval_seconds,
        "eval_rows": len(select),
        "probe_steps": len(batches),
    }


def _spread(cut: list[Tensor], steps: int) -> list[Tensor]:
    """The middles of equally many equal parts of the batches, which are sorted by length: their mean is the data's."""
    steps = min(steps, len(cut))
    return [cut[int((part + 0.5) * len(cut) / steps)] for part in range(steps)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
