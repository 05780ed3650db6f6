"""How long one answer takes: without the method, with its parts beside the model, and with them merged into it."""

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
    """Compare a trained model with its merged form, and both with the bare model, in turns.

    merge: None where the method cannot be merged. rows: real data; batch 1 takes the row of median length.
    Gives `latency` (seconds: median and p95 per model and batch size, None for what cannot be) and `merge_difference`,
    the largest absolute difference between the logits of the two forms over a batch (None likewise).
    """
    order = by_length(rows, batch)
    middle = order[len(order) // 2]
    batches = {
        "1": collate(rows, middle[len(middle) // 2][None]).to(compute.device),
        str(batch): collate(rows, middle).to(compute.device),
    }
    models = {"bare": bare, "adapted": model, "merged": merge(copy.deepcopy(model)) if merge else None}
    there = {name: one.eval() for name, one in models.items() if one is not None}
    with torch.inference_mode(), compute.autocast():
        seconds = {size: _in_turns(there, one) for size, one in batches.items()}
    with torch.inference_mode():  # in the weights' own precision: what merging changes, not what rounding does
        difference = _difference(there, batches[str(batch)]) if merge else None
    latency = {name: {size: seconds[size].get(name) for size in batches} for name in models}
    return {"latency": latency, "merge_difference": difference}


def _in_turns(models: dict[str, nn.Module], batch: Batch) -> dict[str, dict[str, float]]:
    """Seconds per forward pass; each round runs every model once, so that what disturbs one disturbs all."""
    taken: dict[str, list[float]] = {name: [] for name in models}
    for number in range(WARM + ROUNDS):
        for name, model in models.items():
            began = time.perf_counter()
            _ = forward(model, batch).cpu()  # waits for the device
            if number >= WARM:
                taken[name].append(time.perf_counter() - began)
    return {
        name: {"median": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95))}
        for name, seconds in taken.items()
    }


def _difference(models: dict[str, nn.Module], batch: Batch) -> float:
    adapted, merged_one = (forward(models[name], batch) for name in ("adapted", "merged"))
    largest: Tensor = (adapted - merged_one).abs().max()
    return float(largest)
