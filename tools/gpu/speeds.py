"""Speed of the GPU itself, and of our engine next to the Trainer."""

import sys
import time
from pathlib import Path

import torch
from asked import DTYPES, Asked
from page import Page

ROUNDS = 2


def product(options: Asked, page: Page) -> None:
    """Measure matrix products, in FLOPs per second."""
    device, side = options.torch_device, 512 if options.short else 8192
    for name, dtype in DTYPES.items():
        x, taken = torch.randn(side, side, dtype=dtype, device=device), []
        for _ in range(8):
            began = time.perf_counter()
            float((x @ x)[0, 0])  # waits for the device
            taken.append(time.perf_counter() - began)
        page.row("flops", name, {"flops": 2 * side**3 / min(taken)})
    if options.on_card:
        card = torch.cuda.get_device_properties(device)
        page.note(card=card.name, bytes=card.total_memory, cuda=torch.version.cuda)


def speed(options: Asked, page: Page) -> None:
    """Run the contestants alternately, each in its own process."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import speed as benchmark

    done = []
    for contest in benchmark.on_card(page.folder, options.device, options.tokenizer, short=options.short):
        done.append(benchmark.compete(contest, 1 if options.short or "compiled" in contest.name else ROUNDS))
        page.note(contests=done)
        for name, results in done[-1]["rounds"].items():
            for failed in (result["error"] for result in results if result and "error" in result):
                page.claim(f"{contest.name}, {name}: {failed}", None)
