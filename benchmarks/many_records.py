"""Time of the report over thousands of records, and size of its page: --cells 2500 makes 10,000 records.

python benchmarks/many_records.py [--cells 2500] [--rounds 3]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from sample_records import probe_of, record_of, store

from bench.records.record import Record

EXAMPLES, STEPS, SEEDS = 872, 400, 3  # SST-2's validation set; the curve of some thousand training rows
GRID = tuple(product(("sst2", "cola", "mrpc", "rte", "qnli"), "abcd", range(25), (1, 2, 4, 8, 64)))


def records_of(cells: int, random: np.random.Generator) -> Iterator[Record]:
    """Yield a probe and three trials of every cell."""
    truth = random.integers(0, 2, EXAMPLES)
    parts = {"select": truth.tolist(), "report": truth.tolist()}
    for place in range(cells):
        task, model, method, rank = GRID[place % len(GRID)]
        who = {"task": task, "model": model, "method": f"method{method}", "rank": rank, "target": "qv"}
        yield replace(probe_of(trainable=1000 * rank * (method + 1), **who), truth=parts)
        for seed in range(SEEDS):
            right = random.random(EXAMPLES) < 0.7 + 0.2 * method / 25
            answers = np.where(right, truth, 1 - truth).tolist()
            losses = np.round(random.random(STEPS), 6).tolist()
            yield replace(
                record_of(seed=seed, select=float(right.mean()), report=float(right.mean()), **who),
                predictions={"select": answers, "report": answers},
                curve={"step": list(range(1, STEPS + 1)), "loss": losses},
                cost={"train_seconds": 10.0, "eval_seconds": 1.0, "pack": 3},
            )


def main() -> None:
    """Write the records, render the report several times, and print the median time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = store(Path(folder), *records_of(args.cells, np.random.default_rng(0)))
        command = [sys.executable, "-m", "bench.report", f"results_dir={results}"]
        seconds = []
        for _ in range(args.rounds):
            begun = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds.append(time.perf_counter() - begun)
        page = (results / "dashboard.html").stat().st_size / 1e6
    shown = ", ".join(f"{value:.1f}" for value in seconds)
    print(f"{args.cells * (SEEDS + 1):,} records: {median(seconds):.1f} s ({shown}); dashboard {page:.1f} MB")


if __name__ == "__main__":
    main()
