"""Three LoRA steps of a random Llama-3.2-1B on the CPU: seconds, peak memory and swapped bytes. Writes
results/perf/llama-1b-step.json.

    python benchmarks/llama_step.py [--precision bf16] [--batch 2] [--tokens 128]
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.config.compose import cells
from bench.measure.memory import peak_bytes
from bench.measure.parameters import count
from bench.records.provenance import provenance
from bench.runner.build import build, recipe_of
from bench.tasks.outputs import Letters
from bench.train.batches import Batch
from bench.train.device import Compute, describe_device
from bench.train.optim import make_optimizer
from bench.train.step import Stepper

RESULT = Path(__file__).resolve().parents[1] / "results" / "perf" / "llama-1b-step.json"
STEPS = 3
CPU = torch.device("cpu")


def measured(precision: str, rows: int, tokens: int, *words: str) -> dict[str, Any]:
    """Build the model, attach LoRA r=8 on q, v, and update it three times from one batch."""
    (cell,) = cells(["model=llama-3.2-1b", "model.weights=random", "task=quiz", "method=lora", *words], multirun=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    swapped, began = psutil.swap_memory().sout, time.perf_counter()
    model = build(cell, seed=0, compute=Compute(CPU, dtype))
    built = time.perf_counter() - began
    recipe = recipe_of(cell)
    optimizer = make_optimizer(model, recipe.build, lr=1e-4, weight_decay=0.0, lr_ratio=recipe.lr_ratio)
    step = Stepper(model.train(), optimizer, recipe.hooks, clip=1.0, compute=Compute(CPU, dtype))
    ids = torch.randint(1000, 30_000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, None, torch.arange(rows) % 4, rows * tokens, read=Letters((1037, 1038, 1039, 1040)), keep=1)
    seconds, losses = [], []
    for _ in range(STEPS):
        began = time.perf_counter()
        losses.append(float(step(batch).loss))
        seconds.append(time.perf_counter() - began)
    sizes = count(model)
    return {
        "total_params": sizes.total,
        "trainable_params": sizes.trainable,
        "rows": rows,
        "tokens": tokens,
        "build_seconds": built,
        "step_seconds": seconds,
        "losses": losses,
        "peak_resident_bytes": peak_bytes(CPU)["peak_resident_bytes"],
        "swapped_out_bytes": psutil.swap_memory().sout - swapped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    args = parser.parse_args()
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    measurement = measured(args.precision, args.batch, args.tokens)
    result = {"device": describe_device(Compute(CPU, dtype)), "provenance": provenance(), **measurement}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(measurement, indent=1))


if __name__ == "__main__":
    main()
