"""Bases and optimizers with fewer bits."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from asked import Asked
from page import Page
from training import Ground, against_first, attempted

from bench.measure.memory import peak_bytes, reset_peak
from bench.train.packed.start import Unpackable

BASES = ("none", "bf16", "nf4", "nf4_double", "fp4", "int8")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion", "adafactor", "sgd_momentum")


def quantised(options: Asked, page: Page) -> None:
    """Check LoRA in bf16 on every base, and record the memory held.

    Losses must be close to those on the unquantised base, and three packed trials must equal single ones.
    """
    for shape in ("bert", "llama-4"):
        against_first(page, _rows(options, page, shape), "losses apart from those on the whole base", 0.3)


def _rows(options: Asked, page: Page, shape: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for base in BASES:
        name, row = f"{shape}, {base}", attempted(partial(_quantised, options, page, shape, base))
        yield name, row
        if "packed" in row:
            page.claim(f"{name}: losses of 3 packed apart from alone", row["packed"], most=0.05)


def _quantised(options: Asked, page: Page, shape: str, base: str) -> dict[str, Any]:
    device = options.torch_device
    words = [f"quant={base}", "precision=bf16", "seeds=[0,1,2]"]
    ground = Ground.of(options.cell(shape, "lora", page.folder, *words), options.device, "bf16")
    reset_peak(device)
    pack = ground.trials.alone(ground.setup.cell.trials[0])
    held = torch.cuda.memory_allocated(device) if options.on_card else None
    (alone,) = ground.train(pack).values()
    row = {"losses": alone.losses, "seconds": alone.seconds, "held_bytes": held, **peak_bytes(device)}
    del pack
    try:
        together = ground.train(ground.trials.packed(ground.setup.cell.trials))
    except Unpackable as why:
        return row | {"unpackable": str(why)}
    return row | {"packed": together[ground.setup.cell.trials[0].id].apart(alone)["losses"]}


def optimizers(options: Asked, page: Page) -> None:
    """Check full fine-tuning by each optimizer: the loss does not explode, and memory is recorded."""
    for name in OPTIMIZERS:
        row = page.row("table", name, attempted(partial(_optimized, options, page, name)))
        if "error" in row:
            page.claim(f"{name}: {row['error']}", None)
            continue
        page.claim(f"{name}: the last loss as a share of the first", row["losses"][-1] / row["losses"][0], most=1.5)


def _optimized(options: Asked, page: Page, name: str) -> dict[str, Any]:
    cell = options.cell("bert", "full", page.folder, f"optim={name}", "lrs=[1e-5]", "protocol.epochs=2")
    reset_peak(options.torch_device)
    outcome = Ground.of(cell, options.device, "fp32").first()
    return {"losses": outcome.losses, "seconds": outcome.seconds, **peak_bytes(options.torch_device)}
