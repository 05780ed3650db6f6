"""Running out of memory: a limit is set on the GPU, and nothing may be lost."""

from typing import Any

import torch
from asked import STEPS, Asked
from page import Page
from training import Ground, Losses, apart, keeping

from bench.events import Ended, Event
from bench.measure.memory import peak_bytes, reset_peak
from bench.runner.packing import Trials

ROWS, LIMIT = 64, 0.6  # rows of a batch; share of the memory needed without a limit


def out_of_memory(options: Asked, page: Page) -> None:
    """Packs and micro-batches halve, no trial is lost, and the losses stay the same."""
    if not options.on_card:
        page.note(skipped="only a card has a limit to set")
        return
    words = [f"protocol.batch={ROWS}", f"protocol.train_rows={ROWS * STEPS}"]
    kinds = {"9 trials": ["lrs=[1e-3,3e-4,1e-4]", "seeds=[0,1,2]", "pack=9"], "one trial": ["pack=1"]}
    for name, more in kinds.items():
        ground = Ground.of(options.cell("bert", "lora", page.folder, *words, *more), options.device, "fp32")
        row = page.row("table", name, _limited(ground, options.torch_device))
        page.claim(f"{name}: that ended well under the limit", row["ok"], least=len(ground.setup.cell.trials))
        page.claim(f"{name}: losses apart from those without a limit", row["losses"], most=1e-4)
        page.claim(f"{name}: how often memory ran out", row["ran_out"], least=1)


def _limited(ground: Ground, device: torch.device) -> dict[str, Any]:
    free, limited = Losses(), Losses()
    reset_peak(device)
    _run(ground, free)
    peak = peak_bytes(device)["peak_allocated_bytes"] or 0
    torch.cuda.empty_cache()
    before, total = torch.cuda.memory_stats()["num_ooms"], torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(LIMIT * peak / total)
    try:
        reset_peak(device)
        ends = _run(ground, limited)
        under = peak_bytes(device)["peak_allocated_bytes"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    # A trial that begins again reports its first losses twice; its last attempt counts.
    pairs = [(free[name][-STEPS:], limited[name][-STEPS:]) for name in free]
    return {
        "peak_bytes": peak,
        "peak_bytes_limited": under,
        "ran_out": torch.cuda.memory_stats()["num_ooms"] - before,
        "ok": sum(end.outcome == "ok" for end in ends),
        "errors": [end.error["message"][:200] for end in ends if end.error],
        "micro": [end.cost and end.cost["micro"] for end in ends],
        "losses": max(apart(*pair) for pair in pairs),
    }


def _run(ground: Ground, losses: Losses) -> list[Ended]:
    ends: list[Ended] = []
    keep = keeping(losses)

    def emit(event: Event) -> None:
        keep(event)
        if isinstance(event, Ended):
            ends.append(event)

    Trials(ground.setup, emit).run(ground.setup.cell.trials)
    return ends
