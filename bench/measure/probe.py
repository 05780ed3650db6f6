"""The cost of a cell: a few warm steps of one trial, alone in the process, before any trial trains."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.measure.memory import peak_bytes, reset_peak
from bench.measure.parameters import count
from bench.models.fast import Fast, quicken
from bench.tasks.encode import Encoded
from bench.train.batches import collate
from bench.train.evaluate import predict
from bench.train.optim import make_optimizer
from bench.train.plan import Plan, Recipe
from bench.train.start import rehearse
from bench.train.step import Stepper


def probe(
    model: nn.Module,
    data: Encoded,
    plan: Plan,
    recipe: Recipe,
    *,
    steps: int,
    lr: float,
    dtype: torch.dtype,
    fast: Fast,
) -> dict[str, Any]:
    """Measure warm steps over batches spread evenly over the lengths of the data; the longest has run before them.

    Gives counts of parameters; seconds per step (median, 95th percentile), and apart from them the seconds of the first
    step of each length (kernels are chosen, blocks are compiled); samples and tokens (the data's own: neither padding
    nor virtual tokens) per second; peak bytes of training; seconds to evaluate the select part. The model is used up:
    its weights have moved by a few steps at the given rate.
    """
    device = next(model.parameters()).device
    rehearse(model, data, plan, recipe.hooks, dtype)
    quicken(model, fast)
    cut = plan.cut(data.train)
    batches = [collate(data.train, numbers) for numbers in _spread(cut, steps)]
    # Once before it counts: kernels are chosen and built at the first sight of a length.
    warm = [collate(data.train, cut[-1]), *batches]
    optimizer = make_optimizer(model, recipe.build, lr=lr, weight_decay=plan.weight_decay, lr_ratio=recipe.lr_ratio)
    step = Stepper(model, optimizer, recipe.hooks, clip=plan.clip, dtype=dtype, micro=plan.micro)
    recipe.hooks.begin(model, plan.steps(data.train))  # the first steps of a whole training
    model.train()
    reset_peak(device)
    seconds = []
    for batch in [*warm, *batches]:
        began = time.perf_counter()
        step(batch.to(device))
        _wait(device)
        seconds.append(time.perf_counter() - began)
    first, seconds = seconds[: len(warm)], seconds[len(warm) :]
    peaks = peak_bytes(device)
    began = time.perf_counter()
    predict(model, data.select, plan.eval_batch, device, dtype)
    eval_seconds = time.perf_counter() - began
    counts = count(model)
    return {
        "trainable_params": counts.trainable,
        "head_params": counts.head,
        "total_params": counts.total,
        "trainable_percent": counts.percent,
        **peaks,
        "warm_up_seconds": sum(first),
        "step_seconds_median": float(np.median(seconds)),
        "step_seconds_p95": float(np.quantile(seconds, 0.95)),
        "samples_per_second": sum(batch.rows for batch in batches) / sum(seconds),
        "tokens_per_second": sum(batch.tokens for batch in batches) / sum(seconds),
        "eval_seconds": eval_seconds,
        "eval_rows": len(data.select),
        "probe_steps": len(batches),
        "micro": plan.micro,
    }


def _spread(cut: list[Tensor], steps: int) -> list[Tensor]:
    """The middles of equally many equal parts of the batches, which are sorted by length: their mean is the data's."""
    steps = min(steps, len(cut))
    return [cut[int((part + 0.5) * len(cut) / steps)] for part in range(steps)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
