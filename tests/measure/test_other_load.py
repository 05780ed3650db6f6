"""A disturbed measurement is repeated, and its cost is marked if it stays disturbed; a calm one is not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from small_trials import CPU, PLAN, small, training

from bench.measure import other_load as load
from bench.measure.blocks import GLANCE, PATIENCE, REPEATS, in_blocks
from bench.measure.other_load import SHORTEST, Counters, Load, Watch
from bench.measure.probe import LENGTHS, probe
from bench.methods.selective import full
from bench.models.speed.speedups import Fast

CALM = Load(seconds=5.0, cores=2, own_cores=1.9, other_cores=0.05, stolen_cores=0.0)
BUSY = replace(CALM, own_cores=1.0, other_cores=0.95)
STOLEN = replace(CALM, stolen_cores=0.6)
START = Counters(wall=0.0, epoch=0.0, busy=0.0, own=0.0, stolen=0.0)


class Scripted:
    """A watch that reports one load per round, and one per glance while it waits. The last ones repeat."""

    def __init__(self, rounds: list[Load], glances: list[Load] | None = None) -> None:
        self.rounds, self.glances = iter(rounds), iter(glances or [])
        self.seen, self.glanced = CALM, CALM
        self.waited = 0.0

    def read(self) -> Counters:
        return START

    def since(self, first: Counters) -> Load:
        self.seen = next(self.rounds, self.seen)
        return self.seen

    def pause(self, seconds: float) -> Load:
        self.waited += seconds
        self.glanced = next(self.glances, self.glanced)
        return self.glanced


def measured(watch: Scripted, *rounds: list[float], count: int = 5) -> dict[str, Any]:
    """Return the cost of blocks that take these seconds, in two equal steps, round by round. The last block repeats."""
    remaining = [seconds for block_seconds in rounds for seconds in block_seconds]

    def block() -> list[float]:
        seconds = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return [seconds / 2, seconds / 2]

    return in_blocks(block, count, watch)


STEADY = [1.0, 1.02, 0.98, 1.0, 1.05]
UNEVEN = [1.0, 1.0, 1.3, 1.0, 1.0]


def test_a_calm_and_steady_measurement_takes_one_round() -> None:
    watch = Scripted([CALM])
    cost = measured(watch, STEADY)
    assert cost["contended"] is None
    assert (cost["rounds"], cost["blocks"], watch.waited) == (1, 5, 0.0)
    assert (cost["block_seconds_median"], cost["block_spread"]) == (1.0, pytest.approx(0.07))
    assert cost["step_seconds_median"] == 0.5
    assert cost["load"]["other_cores"] == 0.05


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (BUSY, "other processes used 0.9 of 2 cores"),
        (STOLEN, "other virtual machines took 0.6 of 2 cores"),
        (replace(CALM, gpu_processes=1), "1 other processes computed on the GPU"),
    ],
)
def test_other_load_marks_a_cost_even_if_its_blocks_are_steady(seen: Load, why: str) -> None:
    assert measured(Scripted([seen], [seen]), STEADY)["contended"] == why


def test_blocks_that_differ_mark_a_cost_on_a_quiet_machine() -> None:
    cost = measured(Scripted([CALM]), *[UNEVEN] * (1 + REPEATS))
    assert cost["contended"] == "the blocks differ by 30%"
    assert cost["rounds"] == 1 + REPEATS


def test_a_disturbed_measurement_waits_for_a_quiet_machine_and_is_replaced_by_a_calm_one() -> None:
    watch = Scripted([BUSY, CALM], [BUSY, BUSY, CALM])
    cost = measured(watch, [2.0] * 5, STEADY)
    assert cost["contended"] is None
    assert (cost["rounds"], cost["block_seconds_median"]) == (2, 1.0)
    assert watch.waited == 3 * GLANCE


def test_a_machine_that_never_becomes_quiet_costs_one_wait_and_one_more_round() -> None:
    watch = Scripted([BUSY], [BUSY])
    cost = measured(watch, [2.0] * 5, [1.5] * 5, [9.0] * 5)
    assert cost["contended"]
    assert (cost["rounds"], watch.waited) == (2, PATIENCE)
    assert cost["block_seconds_median"] == 1.5  # the round that the other load slowed least


def test_the_number_of_rounds_is_limited() -> None:
    watch = Scripted([BUSY], [CALM])
    assert measured(watch, STEADY)["rounds"] == 1 + REPEATS


def test_a_single_block_is_not_judged() -> None:
    cost = measured(Scripted([BUSY]), [1.0], count=1)
    assert (cost["contended"], cost["block_spread"], cost["rounds"]) == (None, None, 1)


def test_a_measurement_too_short_for_the_systems_ticks_is_never_disturbed() -> None:
    assert not replace(BUSY, seconds=SHORTEST / 2).disturbances
    assert replace(BUSY, seconds=2 * SHORTEST).disturbances


def test_other_load_is_the_load_of_the_cores_minus_that_of_this_process() -> None:
    last = Counters(wall=2.0, epoch=2.0, busy=3.5, own=2.5, stolen=0.5)
    seen = Load.between(START, last, cores=2)
    assert (seen.own_cores, seen.other_cores, seen.stolen_cores) == (1.25, 0.5, 0.25)


def test_only_the_cores_that_this_process_may_use_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = (
        SimpleNamespace(user=user, nice=0, system=0, irq=0, softirq=0, steal=steal)
        for user, steal in ((9.0, 3.0), (1.0, 0))
    )
    watch = Watch(CPU)
    watch._numbers = [1]
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: [busy, idle])
    assert (watch.read().busy, watch.read().stolen) == (1.0, 0.0)


def test_processes_on_a_gpu_are_counted_where_nvml_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [SimpleNamespace(pid=pid, smUtil=used) for pid, used in ((1, 90), (1, 80), (2, 30), (3, 0))]
    queried = []
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=queried.append,
        nvmlDeviceGetProcessUtilization=lambda _handle, _since: samples,
        NVMLError=RuntimeError,
    )
    monkeypatch.setattr(load, "import_module", lambda _: nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="8e02"))
    assert Watch(torch.device("cuda", 0)).since(START).gpu_processes == 1
    assert queried == ["GPU-8e02"]
    assert Watch(CPU).since(START).gpu_processes is None


SPIN = "import os; print(os.getpid(), flush=True)\nwhile True: pass"


@contextmanager
def busy_processes(count: int, *, children: bool) -> Iterator[None]:
    """Run `count` processes that only compute, as children of this process or of another one."""
    shell = "{}" if children else "{} &"
    command = shell.format(f'exec "{sys.executable}" -c "$0"')
    started = [subprocess.Popen(["sh", "-c", command, SPIN], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    pids = [int(process.stdout.readline()) for process in started if process.stdout]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for process in started:
            process.communicate()


def test_a_probe_is_marked_if_every_core_runs_a_busy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.measure.blocks.PATIENCE", 0.0)
    fast = Fast("torch", "all")
    with busy_processes(psutil.cpu_count() or 1, children=False):
        cost = probe(full(small(width=256)), training(), steps=40, lr=1e-3, fast=fast)
    assert cost["load"]["other_cores"] > load.SHARE * cost["load"]["cores"]
    assert "cores" in cost["contended"]


def test_child_processes_count_as_own_load() -> None:
    watch = Watch(CPU)
    with busy_processes(1, children=True):
        assert watch.pause(2 * SHORTEST).own_cores > 0.02


@pytest.mark.parametrize(("steps", "blocks"), [(40, 5), (17, 2), (15, 1), (3, 1)])
def test_every_block_of_a_probe_runs_the_same_batches(steps: int, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.measure.probe.Watch", lambda _: Scripted([CALM]))
    monkeypatch.setattr("bench.measure.blocks.SPREAD", 100.0)
    plan, each = replace(PLAN, batch=4), min(steps, LENGTHS)
    cost = probe(full(small()), training(plan=plan), steps=steps, lr=1e-3, fast=Fast("torch", "all"))
    assert (cost["blocks"], cost["probe_steps"]) == (blocks, blocks * each)
    assert cost["samples_per_second"] == pytest.approx(4 * each / cost["block_seconds_median"])
    assert (cost["block_spread"] is None) is (blocks == 1)
