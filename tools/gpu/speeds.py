"""How fast: the card by itself, and we beside the Trainer."""

import sys
import time
from pathlib import Path

import torch
from asked import DTYPES, Asked
from page import Page

ROUNDS = 2


def product(asked: Asked, page: Page) -> None:
    """Matrix products, in FLOPs per second."""
    device, side = asked.torch_device, 512 if asked.short else 8192
    for name, dtype in DTYPES.items():
        x, taken = torch.randn(side, side, dtype=dtype, device=device), []
        for _ in range(8):
            began = time.perf_counter()
            float((x @ x)[0, 0])  # waits for the device
            taken.append(time.perf_counter() - began)
        page.row("flops", name, {"flops": 2 * side**3 / min(taken)})
    if asked.on_card:
        card = torch.cuda.get_device_properties(device)
        page.note(card=card.name, bytes=card.total_memory, cuda=torch.version.cuda)


def speed(asked: Asked, page: Page) -> None:
    """Contestants in turns, each in a process of its own."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import speed as beside

    done = []
    for contest in beside.on_card(page.folder, asked.device, asked.tokenizer, short=asked.short):
        done.append(beside.compete(contest, 1 if asked.short or "compiled" in contest.name else ROUNDS))
        page.note(contests=done)
        for name, found in done[-1]["rounds"].items():
            for failed in (one["error"] for one in found if one and "error" in one):
                page.claim(f"{contest.name}, {name}: {failed}", None)
