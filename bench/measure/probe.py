"""Measure the cost of a cell: a few warm steps of one trial, alone in the process, before any trial trains."""

import time
from typing import Any

import torch
from torch import Tensor, nn

from bench.measure.blocks import in_blocks
from bench.measure.memory import memory_split, peak_bytes, reset_peak
from bench.measure.other_load import Watch
from bench.measure.parameters import count
from bench.models.speed.speedups import Fast, quicken
from bench.train.batches import Batch, collate
from bench.train.evaluate import predict
from bench.train.optim import make_optimizer
from bench.train.packed.start import EVALUATED, rehearse
from bench.train.settings import Training
from bench.train.step import Stepper

LENGTHS = 8  # steps of a block, whose batches are spread evenly over the lengths of the data
# The keys that describe steps. They are None if a method trains nothing.
OF_STEPS = (
    "warm_up_seconds",
    "step_seconds_median",
    "step_seconds_p95",
    "samples_per_second",
    "tokens_per_second",
    "block_seconds_median",
    "block_spread",
    "contended",
    "load",
)


def probe(model: nn.Module, training: Training, *, steps: int, lr: float, fast: Fast) -> dict[str, Any]:
    """Measure warm steps over batches spread evenly over the lengths of the data. The largest batch runs first.

    The same LENGTHS batches run in steps // LENGTHS blocks, or fewer steps in one block. A disturbed round of blocks is
    measured again (blocks.py). Do not use the model afterwards: its weights have changed.

    Args:
        model: The model with its method attached.
        training: Data, plan and recipe of the training.
        steps: How many steps to measure in a round.
        lr: Learning rate of the steps.
        fast: The speedups to apply.

    Returns:
        Parameter counts. Seconds per step (median, 95th percentile) and per block (median, spread). Apart from them,
        the seconds of the first step of each length, which chooses kernels and compiles blocks. Samples and tokens per
        second of the median block, without padding and virtual tokens. What disturbed the measurement. Peak bytes of
        training. Seconds to evaluate the select part.
    """
    data, plan, recipe, device = training.data, training.plan, training.recipe, training.compute.device
    rehearse(model, training)
    quicken(model, fast)
    batches = [collate(data.train, numbers) for numbers in _spread(plan.cut(data.train), min(steps, LENGTHS))]
    largest = plan.largest(data.train)
    rates = {"lr": lr, "lr_ratio": recipe.lr_ratio, "head_lr": recipe.head_lr}
    optimizer = make_optimizer(model, recipe.build, weight_decay=plan.weight_decay, **rates)
    step = Stepper(model, optimizer, recipe.hooks, clip=plan.clip, compute=training.compute, parts=plan.parts)
    recipe.hooks.begin(model, training.steps)  # as at the start of a full training
    model.train()
    reset_peak(device)

    def time_steps(step_batches: list[Batch]) -> list[float]:
        return [_seconds(step, batch, device) for batch in step_batches]

    # Warm up: kernels are chosen and built when a length first occurs.
    warm_up = time_steps([largest, *batches])
    measured = in_blocks(lambda: time_steps(batches), max(1, steps // LENGTHS), Watch(device))
    peaks = peak_bytes(device)
    return {
        **_evaluated(model, training),
        **peaks,
        "memory": memory_split(model, optimizer, plan.parts(largest)[0].to(device), training.compute),
        "warm_up_seconds": sum(warm_up),
        **measured,
        "samples_per_second": sum(batch.rows for batch in batches) / measured["block_seconds_median"],
        "tokens_per_second": sum(batch.tokens for batch in batches) / measured["block_seconds_median"],
        "probe_steps": len(batches) * measured["blocks"],
        **plan.at_most,
    }


def _seconds(step: Stepper, batch: Batch, device: torch.device) -> float:
    began = time.perf_counter()
    step(batch.to(device))
    _wait(device)
    return time.perf_counter() - began


def probe_untrained(model: nn.Module, training: Training, *, fast: Fast) -> dict[str, Any]:
    """Measure the cost of a method that trains nothing.

    A few rows are evaluated first, to warm up.

    Args:
        model: The model with its method attached.
        training: Data and plan.
        fast: The speedups to apply.

    Returns:
        Parameter counts, seconds to evaluate the select part, and peak bytes. The keys of OF_STEPS are None.
    """
    compute = training.compute
    quicken(model, fast)
    predict(model, training.data.select.first(EVALUATED), training.plan.eval_batch, compute)
    reset_peak(compute.device)
    return {**_evaluated(model, training), **peak_bytes(compute.device), **dict.fromkeys(OF_STEPS)}


def _evaluated(model: nn.Module, training: Training) -> dict[str, Any]:
    """Return the parameter counts and the seconds to evaluate the select part."""
    counts, select = count(model), training.data.select
    began = time.perf_counter()
    predict(model, select, training.plan.eval_batch, training.compute)
    return {
        "trainable_params": counts.trainable,
        "head_params": counts.head,
        "total_params": counts.total,
        "trainable_percent": counts.percent,
        "eval_seconds": time.perf_counter() - began,
        "eval_rows": len(select),
    }


def _spread(cut: list[Tensor], steps: int) -> list[Tensor]:
    """Choose batches spread evenly over the lengths of the data.

    The batches, sorted by length, are divided into equal parts. The middle of each part is taken, so that the mean
    length is that of the data.
    """
    steps = min(steps, len(cut))
    return [cut[int((part + 0.5) * len(cut) / steps)] for part in range(steps)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
