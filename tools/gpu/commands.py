"""Whole commands as a user runs them: workers are forked from the server, train, and are scored and recorded."""

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


def commands(options: Asked, page: Page) -> None:
    """Run a grid of packs, the same grid again, which trains nothing, and a model that is merged, timed and saved."""
    folder = page.folder
    common = [*options.shape("bert"), "track=off", f"device={options.device}", "seeds=[0,1]"]
    common += [f"cache_dir={folder / 'cache'}"]
    methods = ["lora"] if options.short else ["lora", "full", "oft"]
    grid = ["-m", *common, "lrs=[1e-3,1e-4]", "protocol.train_rows=128", "protocol.epochs=1"]
    grid += [f"method={','.join(methods)}", f"results_dir={folder / 'results'}"]
    trained = command(page, "first", grid)
    _records(options, page, folder / "results", trials=4 * len(methods), cells=len(methods))
    again = command(page, "again", grid)
    page.claim("the same command again, as a share of the first one's seconds", again / trained, most=0.9)
    kept = [*common, "method=lora", "lrs=published", "merge=true", "save=merged", f"save_dir={folder / 'saved'}"]
    command(page, "merged", [*kept, "protocol=smoke", "protocol.steps=4", f"results_dir={folder / 'merged'}"])
    _records(options, page, folder / "merged", trials=2, cells=1)


def race(options: Asked, page: Page) -> None:
    """Run a tuned comparison on real weights."""
    if not options.model:
        page.note(skipped="without --model there are no real weights to tune on")
        return
    methods = ["lora"] if options.short else ["lora", "oft", "adapter", "full", "miss", "adapter_pfeiffer"]
    words = [
        "-m",
        "model=minilm",
        f"model.name={Path(options.model).resolve()}",
        "track=off",
        f"device={options.device}",
    ]
    words += [f"cache_dir={page.folder / 'cache'}", f"results_dir={page.folder / 'results'}"]
    words += [f"method={','.join(methods)}"]
    words += ["protocol=quick", "protocol.steps=8", "protocol.candidates=3"] if options.short else []
    command(page, "race", words)
    records = _records(options, page, page.folder / "results", trials=3 * len(methods), cells=len(methods))
    rates = {record["cell"]["title"]: record["race"]["lr"] for record in records if record["kind"] == "race"}
    page.note(rates=rates)
    page.claim("races that chose a rate", sum(map(bool, rates.values())), least=len(methods))


def quantised_commands(options: Asked, page: Page) -> None:
    """Run QLoRA."""
    words = [*options.shape("llama-4"), "track=off", f"device={options.device}", "method=qlora", "seeds=[0,1]"]
    words += ["lrs=[1e-3]", "protocol.train_rows=64", "protocol.epochs=1", f"cache_dir={page.folder / 'cache'}"]
    command(page, "qlora", [*words, f"results_dir={page.folder / 'results'}"])
    _records(options, page, page.folder / "results", trials=2, cells=1)


def command(page: Page, name: str, words: list[str]) -> float:
    """Run bench.run, which must succeed. Returns its seconds."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "bench.run", *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    output = (done.stdout + done.stderr).strip().splitlines()[-15:]
    page.row("commands", name, {"seconds": seconds, "said": output if done.returncode else []})
    page.claim(f"{name}: exit code", done.returncode, most=0)
    return seconds


def _records(options: Asked, page: Page, folder: Path, *, trials: int, cells: int) -> list[dict[str, Any]]:
    """Check the records of so many trials and cells, and keep their main values. Returns all records."""
    records = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")) if ".runs" not in path.parts]
    ended = [record for record in records if record["kind"] == "trial"]
    probes = [record for record in records if record["kind"] == "probe"]
    page.claim("trials that ended well", sum(record["outcome"] == "ok" for record in ended), least=trials)
    if options.on_card:
        peaks = sum(bool(record["cost"]["peak_allocated_bytes"]) for record in probes)
        page.claim("costs with a peak of the card's memory", peaks, least=cells)
    for record in probes:
        page.row("costs", record["cell"]["title"], {name: record["cost"].get(name) for name in COSTS})
    for record in ended:
        scores, cost = record["scores"] or {}, record["cost"] or {}
        row = {"outcome": record["outcome"], "error": (record["error"] or {}).get("message")}
        row |= {name: scores.get(name) for name in ("select", "report", "best_epoch")}
        row |= {name: cost.get(name) for name in ("train_seconds", "pack", "pack_why", "micro")}
        page.row("trials", f"{record['cell']['title']} {record['trial']['id']}", row)
    return records
