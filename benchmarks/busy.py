"""Speed of a training next to other busy processes, by how OpenMP's threads wait for each other.

    python benchmarks/busy.py [--rounds 8] [--seconds 3]

Steps of LoRA r=8 on MiniLM, fp32, two threads, in processes that stay alive: with the threads' default wait, with
the wait that our workers have, and as two processes of one thread each. Every round measures each of them next to
zero, one and four processes that only compute. The load of all other processes is recorded with each measurement.
Writes results/perf/busy.json and busy.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

import torch

from bench.config.compose import cells
from bench.measure.other_load import SHARE, Watch
from bench.models.speed.speedups import Fast, quicken
from bench.records.provenance import provenance
from bench.runner.build import build, load_data, recipe_of
from bench.runner.openmp import SPINNING
from bench.train.batches import collate
from bench.train.device import Compute, describe_device
from bench.train.optim import make_optimizer
from bench.train.settings import Plan
from bench.train.step import Stepper

RESULTS = Path(__file__).resolve().parents[1] / "results" / "perf"
CPU = torch.device("cpu")
FP32 = Compute(CPU, torch.float32)
LOADS, LENGTHS, THREADS = (0, 1, 4), 8, 2
# Number of processes measured at once, threads of each, and environment variables of the wait.
WAYS: dict[str, tuple[int, int, dict[str, str]]] = {
    "default": (1, THREADS, {}),
    "short spinning": (1, THREADS, SPINNING),
    "two of one thread": (2, 1, {}),
}


class Trainer:
    """A process that trains for a given number of seconds on request."""

    def __init__(self, threads: int, environment: dict[str, str]) -> None:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
        environment = {**inherited, "OMP_NUM_THREADS": str(threads), **environment}
        command = [sys.executable, __file__, "--train"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.answer()  # wait for the warm-up

    def ask(self, seconds: float) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        """Return the samples per second."""
        assert self.process.stdout
        return float(self.process.stdout.readline())


def train() -> None:
    """Run the process of a Trainer: warm up, then train for the seconds given on each input line."""
    words = ["method=lora", "rank=8", "task=reviews", "precision=fp32", "device=cpu", "seeds=[0]"]
    (cell,) = cells(words, multirun=False)
    data, plan, recipe = load_data(cell), Plan.of(cell.conf.protocol), recipe_of(cell)
    model = quicken(build(cell, seed=0, compute=FP32), Fast("torch", "read")).train()
    cut = plan.cut(data.train)
    batches = [collate(data.train, cut[int((part + 0.5) * len(cut) / LENGTHS)]) for part in range(LENGTHS)]
    optimizer = make_optimizer(model, recipe.build, lr=1e-3, weight_decay=plan.weight_decay, lr_ratio=recipe.lr_ratio)
    step = Stepper(model, optimizer, recipe.hooks, clip=plan.clip, compute=FP32)
    for batch in batches:
        step(batch)
    print(0, flush=True)
    left = cycle(batches)
    for line in sys.stdin:
        began, samples, until = time.perf_counter(), 0, time.perf_counter() + float(line)
        while time.perf_counter() < until:
            batch = next(left)
            step(batch)
            samples += batch.rows
        print(samples / (time.perf_counter() - began), flush=True)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run `count` processes that only compute."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def measure(rounds: int, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """Measure every way under every load in each round. Yields the rounds: samples/s and cores used by others."""
    watch = Watch(CPU)
    with ExitStack() as stack:
        ways = {name: [Trainer(threads, how) for _ in range(count)] for name, (count, threads, how) in WAYS.items()}
        stack.callback(lambda: [trainer.process.kill() for trainers in ways.values() for trainer in trainers])
        for number in range(rounds):
            results = []
            for load in LOADS:
                with busy(load):
                    for name, trainers in ways.items():
                        first = watch.read()
                        for trainer in trainers:
                            trainer.ask(seconds)
                        speed = sum(trainer.answer() for trainer in trainers)
                        others = watch.since(first).other_cores
                        results.append({"round": number, "busy": load, "way": name, "speed": speed, "others": others})
                        print(results[-1], file=sys.stderr, flush=True)
            yield results


def page(rows: list[dict[str, Any]], device: dict[str, Any], cores: int) -> str:
    """Return the medians as a table. Fair share: the cores that two threads get among all threads that want to run."""
    rounds, disturbed = len({row["round"] for row in rows}), sum(row["others"] > SHARE * cores for row in rows)
    about = (
        f"LoRA r=8 on MiniLM, fp32, {device['device_name']}, {cores} cores. Speeds are medians of {rounds} rounds, "
        "each of which measures every row once. Command: `python benchmarks/busy.py`."
    )
    shared = (
        f"The machine was shared: in {disturbed} of {len(rows)} measurements unrelated processes used more than "
        f"{100 * SHARE:.0f}% of the cores. A dash: there was no idle machine to compare with. Compare only rows with "
        "the same number of busy processes."
    )
    heads = (
        "busy processes",
        "how threads wait",
        "samples/s",
        "share of idle default",
        "share of the fair share",
        "times default",
        "cores used by unrelated processes",
    )
    lines = ["# Speed next to other busy processes", "", fill(about, 120), ""]
    lines += [fill(shared, 120), ""] if disturbed else []
    lines += [f"| {' | '.join(heads)} |", "|---:|---|---:|---:|---:|---:|---:|"]
    idle = _median(rows, 0, "default", "speed")
    for load in LOADS:
        fair = idle * min(1.0, cores / (THREADS + load))
        for way in WAYS:
            speed, others = (_median(rows, load, way, what) for what in ("speed", "others"))
            pairs = [
                row["speed"] / default["speed"]
                for row in rows
                for default in rows
                if row["round"] == default["round"] and row["busy"] == default["busy"] == load
                if (row["way"], default["way"]) == (way, "default")
            ]
            quiet = _median(rows, 0, "default", "others") <= SHARE * cores
            shares = " | ".join(f"{100 * share:.0f}%" if quiet else "-" for share in (speed / idle, speed / fair))
            lines.append(f"| {load} | {way} | {speed:.1f} | {shares} | {median(pairs):.2f} | {others:.2f} |")
    return "\n".join(lines) + "\n"


def _median(rows: list[dict[str, Any]], load: int, way: str, what: str) -> float:
    return median(row[what] for row in rows if (row["busy"], row["way"]) == (load, way))


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train()
        return
    device, results = describe_device(Compute(CPU, torch.float32)), []
    versions = {name: provenance()[name] for name in ("version", "commit", "dirty", "python")}
    about = {"waits": SPINNING, "seconds": args.seconds, "device": device, "provenance": versions}
    for part in measure(args.rounds, args.seconds):  # written after every round, as a round takes long under load
        results += part
        (RESULTS / "busy.json").write_text(
            json.dumps(about | {"measurements": results}, indent=1) + "\n", encoding="utf-8"
        )
        (RESULTS / "busy.md").write_text(page(results, device, os.cpu_count() or 1), encoding="utf-8")


if __name__ == "__main__":
    main()
