"""Agreement of numbers: GPU with CPU, packed with single trials, other attentions and compiled blocks with our own."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from asked import DTYPES, Asked
from page import Page
from training import PLAIN, Ground, against_first, attempted

from bench.models.speed.speedups import Fast
from bench.train.device import exact_products

METHODS = (
    *("full", "head", "lora", "dora", "adalora", "ia3", "oft", "vera"),
    *("adapter", "adapter_parallel", "prefix"),
)
ONLY_ENCODERS = ("bitfit",)
STEADY = {"full": "1e-5"}  # where every weight is trained, rounding grows with the rate
PROCESSES = 6


def golden(options: Asked, page: Page) -> None:
    """Compare the losses of every kind of method with the CPU's in fp32."""
    pairs = [("bert", "lora"), ("llama-2", "adapter")]
    if not options.short:
        pairs = [(shape, name) for shape in ("bert", "llama-2") for name in METHODS]
        pairs += [("bert", name) for name in ONLY_ENCODERS]
    with ProcessPoolExecutor(1 if options.short else PROCESSES, mp_context=get_context("spawn")) as pool:
        for (shape, method), row in zip(pairs, pool.map(partial(_golden, options, page.folder), pairs), strict=True):
            name = f"{method} on {shape}"
            page.row("table", name, row)
            if "error" in row:
                page.claim(f"{name}: {row['error']}", None)
                continue
            page.claim(f"{name}: losses in fp32 apart from the CPU's", row["fp32"]["losses"], most=1e-4)
            page.claim(f"{name}: losses in bf16 apart from the CPU's in fp32", row["bf16"]["losses"], most=0.1)


def _golden(options: Asked, folder: Path, pair: tuple[str, str]) -> dict[str, Any]:
    shape, method = pair
    torch.set_num_threads(2)
    exact_products()

    def row() -> dict[str, Any]:
        cell = options.cell(shape, method, folder, f"lrs=[{STEADY.get(method, '1e-3')}]")
        expected = Ground.of(cell, "cpu", "fp32").first()
        numbers: dict[str, Any] = {"cpu": {"losses": expected.losses, "seconds": expected.seconds}}
        for precision in DTYPES:
            ours = Ground.of(cell, options.device, precision).first()
            numbers[precision] = {**ours.apart(expected), "seconds": ours.seconds}
        return numbers

    return attempted(row)


def packed(options: Asked, page: Page) -> None:
    """Compare nine trials (two in short form) in one model with the same trials alone, in fp32."""
    trials = ("seeds=[0,1]",) if options.short else ("lrs=[1e-3,3e-4,1e-4]", "seeds=[0,1,2]")
    for method in ("lora",) if options.short else ("lora", "adapter", "prefix"):
        cell = options.cell("bert", method, page.folder, *trials)
        ground = Ground.of(cell, options.device, "fp32")
        together = ground.train(ground.trials.packed(cell.trials))
        alone = {}
        for trial in cell.trials:
            alone |= ground.train(ground.trials.alone(trial))
        apart = [together[name].apart(alone[name]) for name in alone]
        row = {key: max(difference[key] for difference in apart) for key in ("losses", "weights")}
        row["seconds_packed"] = max(outcome.seconds for outcome in together.values())
        row["seconds_alone"] = sum(outcome.seconds for outcome in alone.values())
        page.row("table", method, row)
        page.claim(f"{method}: losses of {len(alone)} packed apart from {len(alone)} alone", row["losses"], most=1e-4)


def ways(options: Asked, page: Page) -> None:
    """Compare other attentions and compiled blocks with our own attention."""
    kinds = {
        "own": PLAIN,
        "last layer where it is read": Fast("torch", "read"),
        "sdpa": Fast("torch", "all", attention="sdpa"),
        "eager": Fast("torch", "all", attention="eager"),
        "compile=default": Fast("torch", "all", compile="default"),
        "compile=cudagraphs": Fast("torch", "all", compile="cudagraphs"),
    }
    kinds = {name: fast for name, fast in kinds.items() if not options.short or fast.compile == "none"}
    for shape in ("bert", "llama-2"):
        rows = (
            (f"{shape}, {name}", attempted(partial(_way, options, page, shape, fast))) for name, fast in kinds.items()
        )
        against_first(page, rows, "losses in fp32 apart from our own attention's", 1e-4)


def _way(options: Asked, page: Page, shape: str, fast: Fast) -> dict[str, Any]:
    cell = options.cell(shape, "lora", page.folder, f"fast.attention={fast.attention}")
    exact = Ground.of(cell, options.device, "fp32", fast).first()
    half = Ground.of(cell, options.device, "bf16", fast).first()
    return {"losses": exact.losses, "seconds": exact.seconds, "seconds_bf16": half.seconds}
