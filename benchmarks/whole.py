"""Compares whole commands with whole processes: the time that a user waits, imports and evaluation included."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from setting import LEARNING_RATE, RATES, SEEDS
from sst2_lengths import phrases

from bench.config.compose import cells
from bench.events import Started
from bench.runner import launch
from bench.runner.build import load_task
from bench.runner.job import Job
from bench.tasks.base import Split

ROWS, SELECT, DEV, BATCH = 640, 64, 128, 32
RANKS, TARGETS = (1, 2, 4, 8, 16, 64), {"q": ("query",), "qv": ("query", "value")}
SCRIPT = Path(__file__).with_name("trainer_script.py")
TIMES = 5


def contests(place: Path, precision: str, only: str = "") -> list[dict[str, Any]]:
    """Run the contests: nine trials of a cell, twelve cells, and (once) the time to start."""
    write_data(place)
    kinds = {"9 trials, whole": nine_trials, "12 cells, whole": twelve_cells}
    if precision == "fp32":
        kinds["seconds to start"] = starting
    done = []
    for name, run in kinds.items():
        if only in name:
            print(f"  {name}, {precision}", file=sys.stderr, flush=True)
            setting = {"model": "minilm", "precision": precision, "batch": BATCH, "rows": ROWS}
            done.append({"contest": name, "setting": setting, "rows": {}, "rounds": run(place, precision)})
    return done


def nine_trials(place: Path, precision: str) -> dict[str, Any]:
    """Measure three rates with three seeds: one command, and nine processes one after the other."""
    rates, seeds = (",".join(map(str, numbers)) for numbers in (RATES, SEEDS))
    command = bench(place, precision, f"lrs=[{rates}]", f"seeds=[{seeds}]", "rank=8", f"results_dir={place / 'nine'}")
    peers = [trainer(place, precision, rate, seed, 8, "qv") for rate in RATES for seed in SEEDS]
    return {"ours": [watched([command])], "9 Trainer processes": [watched(peers)]}


def twelve_cells(place: Path, precision: str) -> dict[str, Any]:
    """Measure six ranks with two targets, one rate and one seed."""
    ranks, targets = (",".join(map(str, words)) for words in (RANKS, TARGETS))
    command = bench(place, precision, "-m", f"rank={ranks}", f"target={targets}", f"results_dir={place / 'twelve'}")
    peers = [trainer(place, precision, LEARNING_RATE, 0, rank, name) for rank in RANKS for name in TARGETS]
    return {"ours": [watched([[*command, "seeds=[0]"]])], "12 Trainer scripts": [watched(peers)]}


def starting(place: Path, precision: str) -> dict[str, Any]:
    """Measure the time before the first step, and the time of commands that train nothing."""
    again = bench(place, precision, "-m", f"rank={','.join(map(str, RANKS))}", f"results_dir={place / 'twelve'}")
    recorded = [*again, "seeds=[0]", f"target={','.join(TARGETS)}"]
    commands = {
        "bench.run --help": [sys.executable, "-m", "bench.run", "--help"],
        "bench.report": [sys.executable, "-m", "bench.report", f"results_dir={place / 'twelve'}"],
        "12 recorded cells": recorded,
        "1 recorded cell": [*bench(place, precision, "rank=8", f"results_dir={place / 'twelve'}"), "seeds=[0]"],
    }
    measured = {name: [watched([command]) for _ in range(TIMES)] for name, command in commands.items()}
    return measured | {
        "a warm worker's first step": [{"seconds": seconds} for seconds in first_steps(place, precision)]
    }


def first_steps(place: Path, precision: str) -> list[float]:
    """Return the seconds from the request of a cell to its first step: fork, data from the cache, model, method."""
    (cell,) = cells(bench(place, precision, "rank=8", "seeds=[0]")[3:], multirun=False)
    taken = []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        with closing(launch.run_jobs(iter([Job(cell, cell.trials)]), 1)) as events:
            next(event for _, event in events if isinstance(event, Started))
            taken.append(time.perf_counter() - began)
    return taken[1:]  # the first job starts the server


def bench(place: Path, precision: str, *more: str) -> list[str]:
    """Return our command on the folder's data; the cost of each cell is measured on one step of each kind."""
    first = [word for word in more if word.startswith("-")]
    settings = [
        "method=lora",
        "task=sst2",
        f"task.path={place}",
        f"task.select_rows={SELECT}",
        f"protocol.batch={BATCH}",
        "protocol.probe_steps=1",
        *([] if any(word.startswith("lrs=") for word in more) else ["lrs=published"]),
        f"precision={precision}",
        "device=cpu",
        "track=off",
        f"cache_dir={place / 'cache'}",
    ]
    return [sys.executable, "-m", "bench.run", *first, *settings, *(word for word in more if word not in first)]


def trainer(place: Path, precision: str, lr: float, seed: int, rank: int, target: str) -> list[str]:
    (cell,) = cells(["method=lora"], multirun=False)
    options = {"model": cell.source.location, "data": place, "lr": lr, "seed": seed, "rank": rank, "batch": BATCH}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    bf16 = ["--bf16"] if precision == "bf16" else []
    return [sys.executable, str(SCRIPT), *words, *bf16, "--targets", *TARGETS[target]]


def watched(commands: Sequence[list[str]]) -> dict[str, Any]:
    """Run commands in turn. Returns their total and median seconds and the peak memory of the largest process."""
    peak, taken = Peak(), []
    with peak:
        for command in commands:
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=peak.environment)
            taken.append(time.perf_counter() - began)
    return {"seconds": sum(taken), "each": median(taken), "peak_resident_bytes": peak.bytes}


class Peak:
    """The largest resident size that any descendant of this process reaches, sampled every 20 ms."""

    environment = None

    def __enter__(self) -> "Peak":
        self.bytes, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                try:
                    self.bytes = max(self.bytes, process.memory_info().rss)
                except psutil.Error:  # the process has just ended
                    continue


def write_data(place: Path) -> None:
    """Write train.tsv and dev.tsv in GLUE's layout, with SST-2's lengths."""
    (cell,) = cells(["method=lora"], multirun=False)
    texts = phrases(load_task(cell).train, ROWS + SELECT + DEV)
    for name, part in (("dev.tsv", texts.take(range(DEV))), ("train.tsv", texts.take(range(DEV, len(texts))))):
        (place / name).write_text(_tsv(part), encoding="utf-8")


def _tsv(split: Split) -> str:
    rows = (f"{text}\t{label}" for text, label in zip(split.texts, split.labels, strict=True))
    return "\n".join(["sentence\tlabel", *rows, ""])
