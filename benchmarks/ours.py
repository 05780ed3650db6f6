"""Our engine in the process of a worker: one trial, nine trials in a pack, nine trials one by one."""

import gc
import time
from dataclasses import replace
from typing import Any

import torch
from products import product_speeds
from setting import SEEDS, Setting, worked

from bench.config.enums import Compile
from bench.events import Ended
from bench.measure.memory import peak_bytes, reset_peak
from bench.models.load import linear_weights
from bench.models.speed.speedups import pick_fast
from bench.runner.build import recipe_of
from bench.runner.malloc import keep_freed_memory
from bench.runner.packing import Trials
from bench.runner.setup import CellSetup
from bench.tasks.encoding.rows import Encoded
from bench.train.device import Compute
from bench.train.loop import Pack, run_trials
from bench.train.settings import Plan, Training


class Ours:
    """A setting with its data and the faster ways that a worker would choose for it."""

    def __init__(self, setting: Setting) -> None:
        keep_freed_memory()
        gc.freeze()  # as the server of workers does
        self.cell, self.compute = setting.cell, Compute(setting.torch_device, setting.dtype)
        conf = replace(self.cell.conf.fast, compile=Compile(setting.compile))
        weights = linear_weights(self.cell.source, self.cell.outputs, speaks=self.cell.form.speaks)
        self.fast = pick_fast(conf, self.compute.device, self.compute.dtype, weights)
        data = setting.data().in_multiples(self.fast.multiple)
        self.warm, self.data = (replace(data, train=part) for part in _parts(data, setting.warm))

    def trials(self, data: Encoded) -> Trials:
        training = Training(data, Plan.of(self.cell.conf.protocol), recipe_of(self.cell), self.compute)
        return Trials(CellSetup(self.cell, training, self.fast), lambda _: None)

    def alone(self, data: Encoded, seed: int) -> Pack:
        return self.trials(data).alone(next(trial for trial in self.cell.trials if trial.seed == seed))

    def pack(self, data: Encoded) -> Pack:
        return self.trials(data).packed(self.cell.trials)

    def speed(self, packs: list[Pack]) -> dict[str, Any]:
        """Train all trials and return their speed and memory. The seconds include no evaluation."""
        reset_peak(self.compute.device)
        ends = [end for pack in packs for _, end in run_trials(pack, lambda _: None)]
        costs = [end.cost for end in ends if isinstance(end, Ended) and end.cost]
        assert len(costs) == len(ends), ends
        seconds = sum(cost["train_seconds"] for cost in costs)
        return {
            "samples_per_second": sum(cost["samples"] for cost in costs) / seconds,
            "tokens_per_second": sum(cost["tokens"] for cost in costs) / seconds,
            **peak_bytes(self.compute.device),
            "fast": self.fast.as_dict(),
        }


def _parts(data: Encoded, warm: int) -> tuple[Any, Any]:
    rows = data.train
    rest = replace(rows, starts=rows.starts[warm:], lengths=rows.lengths[warm:], labels=rows.labels[warm:])
    return rows.first(warm), rest


def one_trial(setting: Setting) -> dict[str, Any]:
    """Train one trial alone. Also returns its model FLOPs per second, to compare with the best matrix product."""
    ours = Ours(setting)
    began = time.perf_counter()
    ours.speed([ours.alone(ours.warm, 0)])
    warm_up = time.perf_counter() - began
    pack = ours.alone(ours.data, 0)
    speeds = ours.speed([pack])
    size = worked(pack.model_of(pack.members[0]))
    return speeds | {"warm_up_seconds": warm_up, "flops": 4 * size * speeds["tokens_per_second"]}


def one_trial_compiled(how: str, setting: Setting) -> dict[str, Any]:
    """Train one trial with compiled blocks. The warm-up rows have every length that the other rows have."""
    return one_trial(replace(setting, compile=how))


def nine_one_by_one(setting: Setting) -> dict[str, Any]:
    """Train three of the nine trials one by one; all nine differ only in numbers."""
    ours = Ours(setting)
    ours.speed([ours.alone(ours.warm, 0)])
    return ours.speed([ours.alone(ours.data, seed) for seed in SEEDS])


def nine_packed(setting: Setting) -> dict[str, Any]:
    """Train three rates with three seeds together."""
    ours = Ours(setting)
    ours.speed([ours.pack(ours.warm)])
    return ours.speed([ours.pack(ours.data)])


def best_product(setting: Setting) -> dict[str, Any]:
    """Measure the device's best matrix product in this precision, in FLOPs per second."""
    device, side = setting.torch_device, 1024 if setting.device == "cpu" else 8192
    x = torch.randn(side, side, dtype=setting.dtype, device=device)
    taken = []
    for _ in range(10):
        began = time.perf_counter()
        float((x @ x)[0, 0])  # waits for the device
        taken.append(time.perf_counter() - began)
    small = [speed for name, speed in product_speeds(device).items() if name.endswith(setting.precision)]
    return {"flops": max([2 * side**3 / min(taken), *small])}
