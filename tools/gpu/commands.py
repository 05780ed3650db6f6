"""Whole commands as a user gives them: workers are forked from the server, train, are scored and recorded."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from asked import Asked
from page import Page

COSTS = (
    *("samples_per_second", "tokens_per_second", "block_spread", "contended", "load"),
    *("peak_allocated_bytes", "peak_reserved_bytes", "memory", "latency", "merge_difference"),
)


def commands(asked: Asked, page: Page) -> None:
    """A grid of packs; the same again, which trains nothing; a model that is merged, timed and saved."""
    folder = page.folder
    common = [*asked.shape("bert"), "track=off", f"device={asked.device}", "seeds=[0,1]"]
    common += [f"cache_dir={folder / 'cache'}"]
    methods = ["lora"] if asked.short else ["lora", "full", "oft"]
    grid = ["-m", *common, "lrs=[1e-3,1e-4]", "protocol.train_rows=128", "protocol.epochs=1"]
    grid += [f"method={','.join(methods)}", f"results_dir={folder / 'results'}"]
    trained = command(page, "first", grid)
    _records(asked, page, folder / "results", trials=4 * len(methods), cells=len(methods))
    again = command(page, "again", grid)
    page.claim("the same command again, as a share of the first one's seconds", again / trained, most=0.9)
    kept = [*common, "method=lora", "lrs=published", "merge=true", "save=merged", f"save_dir={folder / 'saved'}"]
    command(page, "merged", [*kept, "protocol=smoke", "protocol.steps=4", f"results_dir={folder / 'merged'}"])
    _records(asked, page, folder / "merged", trials=2, cells=1)


def race(asked: Asked, page: Page) -> None:
    """A tuned comparison on real weights."""
    if not asked.model:
        page.note(skipped="without --model there are no real weights to tune on")
        return
    methods = ["lora"] if asked.short else ["lora", "oft", "adapter", "full", "miss", "adapter_pfeiffer"]
    words = ["-m", "model=minilm", f"model.name={Path(asked.model).resolve()}", "track=off", f"device={asked.device}"]
    words += [f"cache_dir={page.folder / 'cache'}", f"results_dir={page.folder / 'results'}"]
    words += [f"method={','.join(methods)}"]
    words += ["protocol=quick", "protocol.steps=8", "protocol.candidates=3"] if asked.short else []
    command(page, "race", words)
    told = _records(asked, page, page.folder / "results", trials=3 * len(methods), cells=len(methods))
    rates = {one["cell"]["title"]: one["race"]["lr"] for one in told if one["kind"] == "race"}
    page.note(rates=rates)
    page.claim("races that chose a rate", sum(map(bool, rates.values())), least=len(methods))


def quantised_commands(asked: Asked, page: Page) -> None:
    """QLoRA."""
    words = [*asked.shape("llama-4"), "track=off", f"device={asked.device}", "method=qlora", "seeds=[0,1]"]
    words += ["lrs=[1e-3]", "protocol.train_rows=64", "protocol.epochs=1", f"cache_dir={page.folder / 'cache'}"]
    command(page, "qlora", [*words, f"results_dir={page.folder / 'results'}"])
    _records(asked, page, page.folder / "results", trials=2, cells=1)


def command(page: Page, name: str, words: list[str]) -> float:
    """Run bench.run, which must end well; gives its seconds."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "bench.run", *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    said = (done.stdout + done.stderr).strip().splitlines()[-15:]
    page.row("commands", name, {"seconds": seconds, "said": said if done.returncode else []})
    page.claim(f"{name}: exit code", done.returncode, most=0)
    return seconds


def _records(asked: Asked, page: Page, folder: Path, *, trials: int, cells: int) -> list[dict[str, Any]]:
    """What must hold of the records of so many trials and cells, and of them what a reader asks first."""
    told = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")) if ".runs" not in path.parts]
    ended = [one for one in told if one["kind"] == "trial"]
    probes = [one for one in told if one["kind"] == "probe"]
    page.claim("trials that ended well", sum(one["outcome"] == "ok" for one in ended), least=trials)
    if asked.on_card:
        peaks = sum(bool(one["cost"]["peak_allocated_bytes"]) for one in probes)
        page.claim("costs with a peak of the card's memory", peaks, least=cells)
    for one in probes:
        page.row("costs", one["cell"]["title"], {name: one["cost"].get(name) for name in COSTS})
    for one in ended:
        scores, cost = one["scores"] or {}, one["cost"] or {}
        row = {"outcome": one["outcome"], "error": (one["error"] or {}).get("message")}
        row |= {name: scores.get(name) for name in ("select", "report", "best_epoch")}
        row |= {name: cost.get(name) for name in ("train_seconds", "pack", "pack_why", "micro")}
        page.row("trials", f"{one['cell']['title']} {one['trial']['id']}", row)
    return told
