"""Our own engine, in the process of a worker: one trial, nine in a pack, nine one by one."""

import time
from dataclasses import replace
from typing import Any

import torch
from setting import LEARNING_RATE, Setting, worked

from bench.build import build, recipe_of
from bench.events import Ended
from bench.heap import keep_freed_memory
from bench.measure.memory import peak_bytes, reset_peak
from bench.measure.products import product_speeds
from bench.models.fast import pick_fast, quicken
from bench.tasks.encode import Encoded
from bench.train.alone import Alone
from bench.train.loop import Pack, run_trials
from bench.train.packed import Packed
from bench.train.plan import Plan, Wanted
from bench.train.start import gather, rehearse, sample_of

RATES, SEEDS = (1e-3, 5e-4, 1e-4), (0, 1, 2)


class Ours:
    """A setting, its data and the ways that a worker would choose for it."""

    def __init__(self, setting: Setting) -> None:
        keep_freed_memory()
        self.setting, self.cell, self.dtype = setting, setting.cell, setting.dtype
        self.device, speeds = setting.torch_device, product_speeds(setting.torch_device)
        conf = self.cell.config["fast"] | {"compile": setting.compile}
        self.fast = pick_fast(conf, self.device, self.dtype, speeds)
        data = setting.data().in_multiples(self.fast.multiple)
        self.warm, self.data = (replace(data, train=part) for part in _parts(data, setting.warm))
        self.plan = Plan.of(self.cell.config["protocol"])

    def prepared(self, seed: int) -> torch.nn.Module:
        model = build(self.cell, seed=seed, device=self.device, dtype=self.dtype)
        rehearse(model, self.data, self.plan, recipe_of(self.cell).hooks, self.dtype)
        return model

    def alone(self, data: Encoded, seed: int) -> Pack:
        return Alone(
            quicken(self.prepared(seed), self.fast),
            Wanted(str(seed), LEARNING_RATE, seed),
            recipe_of(self.cell),
            self.plan,
            self.plan.steps(data.train),
            dtype=self.dtype,
            emit=lambda _: None,
        )

    def pack(self, data: Encoded) -> Pack:
        sample = sample_of(data.train).to(self.device)
        frame, starts = gather(((seed, self.prepared(seed)) for seed in SEEDS), sample, self.dtype)
        wanted = [Wanted(f"{rate}-{seed}", rate, seed) for rate in RATES for seed in SEEDS]
        steps = self.plan.steps(data.train)
        frame = quicken(frame, replace(self.fast, compile="none"))
        recipe = recipe_of(self.cell)
        pack = Packed(frame, starts, wanted, recipe, self.plan, steps, dtype=self.dtype, emit=lambda _: None)
        pack.verify(starts, sample)
        return pack

    def speed(self, packs: list[Pack], data: Encoded) -> dict[str, Any]:
        """Train; all trials count. An evaluation is no part of the seconds."""
        reset_peak(self.device)
        ends = [end for pack in packs for _, end in run_trials(pack, data, self.plan, lambda _: None)]
        costs = [end.cost for end in ends if isinstance(end, Ended) and end.cost]
        assert len(costs) == len(ends), ends
        seconds = sum(cost["train_seconds"] for cost in costs)
        return {
            "samples_per_second": sum(cost["samples"] for cost in costs) / seconds,
            "tokens_per_second": sum(cost["tokens"] for cost in costs) / seconds,
            **peak_bytes(self.device),
            "fast": self.fast.told(),
        }


def _parts(data: Encoded, warm: int) -> tuple[Any, Any]:
    rows = data.train
    rest = replace(rows, starts=rows.starts[warm:], lengths=rows.lengths[warm:], labels=rows.labels[warm:])
    return rows.first(warm), rest


def one_trial(setting: Setting) -> dict[str, Any]:
    """One trial alone; with the share of the best matrix product that its model FLOPs make."""
    ours = Ours(setting)
    began = time.perf_counter()
    ours.speed([ours.alone(ours.warm, 0)], ours.warm)
    warm_up = time.perf_counter() - began
    pack = ours.alone(ours.data, 0)
    found = ours.speed([pack], ours.data)
    size = worked(pack.model_of(pack.members[0]) if pack.members else ours.prepared(0))
    return found | {"warm_up_seconds": warm_up, "flops": 4 * size * found["tokens_per_second"]}


def nine_one_by_one(setting: Setting) -> dict[str, Any]:
    """Three of the nine: they differ in numbers alone."""
    ours = Ours(setting)
    ours.speed([ours.alone(ours.warm, 0)], ours.warm)
    return ours.speed([ours.alone(ours.data, seed) for seed in SEEDS], ours.data)


def nine_packed(setting: Setting) -> dict[str, Any]:
    """Three rates and three seeds together."""
    ours = Ours(setting)
    ours.speed([ours.pack(ours.warm)], ours.warm)
    return ours.speed([ours.pack(ours.data)], ours.data)


def best_product(setting: Setting) -> dict[str, Any]:
    """The best matrix product of the device in this arithmetic, in FLOPs per second."""
    device, side = setting.torch_device, 1024 if setting.device == "cpu" else 8192
    x = torch.randn(side, side, dtype=setting.dtype, device=device)
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        float((x @ x)[0, 0])  # waits for the device
        taken.append(time.perf_counter() - began)
    small = [speed for name, speed in product_speeds(device).items() if name.endswith(setting.precision)]
    return {"flops": max([2 * side**3 / min(taken), *small])}
