"""Measure inference latency without the method, with it attached to the model, and with it merged into the model."""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.tasks.encoding.rows import Rows
from bench.train.batches import Batch, by_length, collate
from bench.train.device import Compute
from bench.train.evaluate import forward

WARM, ROUNDS = 3, 30


def merging(
    model: nn.Module,
    merge: Callable[[nn.Module], nn.Module] | None,
    bare: nn.Module,
    rows: Rows,
    batch: int,
    compute: Compute,
) -> dict[str, Any]:
    """Compare a trained model with its merged form, and both with the bare model.

    Args:
        model: The trained model with its method attached.
        merge: Merges a copy of the model. None if the method cannot be merged.
        bare: The model without the method.
        rows: Real data. Batch size 1 takes the row of median length.
        batch: The larger of the two batch sizes.
        compute: Device and precision.

    Returns:
        A dictionary with two entries. `latency` holds the seconds per forward pass, median and 95th percentile, by
        model and batch size. `merge_difference` is the largest absolute difference between the logits of the two forms
        over a batch. Entries of the merged form are None if the method cannot be merged.
    """
    order = by_length(rows, batch)
    middle = order[len(order) // 2]
    batches = {
        "1": collate(rows, middle[len(middle) // 2][None]).to(compute.device),
        str(batch): collate(rows, middle).to(compute.device),
    }
    models = {"bare": bare, "adapted": model, "merged": merge(copy.deepcopy(model)) if merge else None}
    available = {name: module.eval() for name, module in models.items() if module is not None}
    with torch.inference_mode(), compute.autocast():
        seconds = {size: _interleaved_seconds(available, inputs) for size, inputs in batches.items()}
    with torch.inference_mode():  # in the weights' own precision, so that only the effect of merging is seen
        difference = _difference(available, batches[str(batch)]) if merge else None
    latency = {name: {size: seconds[size].get(name) for size in batches} for name in models}
    return {"latency": latency, "merge_difference": difference}


def _interleaved_seconds(models: dict[str, nn.Module], batch: Batch) -> dict[str, dict[str, float]]:
    """Time a forward pass of each model. Each round runs every model once, so that a disturbance affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for number in range(WARM + ROUNDS):
        for name, model in models.items():
            began = time.perf_counter()
            _ = forward(model, batch).cpu()  # waits for the device
            if number >= WARM:
                times[name].append(time.perf_counter() - began)
    return {
        name: {"median": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95))}
        for name, seconds in times.items()
    }


def _difference(models: dict[str, nn.Module], batch: Batch) -> float:
    adapted, merged = (forward(models[name], batch) for name in ("adapted", "merged"))
    largest: Tensor = (adapted - merged).abs().max()
    return float(largest)
