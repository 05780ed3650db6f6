"""Compares our engine with other tools: `make bench`; on a GPU it is a part of `make check-gpu`.

Every measurement runs in a fresh process, and the contestants alternate. Ratios are taken within a round, and their
median and spread are shown. Writes results/perf/speed-cpu.json and speed-cpu.md.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # looking for a GPU must not initialise CUDA before a fork

import ours
import peers
import torch
import transformers
import whole
from render import table
from setting import TOKENIZER, Setting

from bench.records.provenance import provenance
from bench.train.device import Compute, describe_device

RESULTS = Path(__file__).resolve().parents[1] / "results" / "perf"
Contestant = Callable[[Setting], dict[str, Any] | None]


@dataclass(frozen=True)
class Contest:
    """The first contestant is ours. few: numbers of rows for contestants that are too slow for all rows."""

    name: str
    setting: Setting
    contestants: dict[str, Contestant]
    few: dict[str, int]

    def settings(self) -> Iterator[tuple[str, Contestant, Setting]]:
        for name, call in self.contestants.items():
            yield name, call, replace(self.setting, rows=self.few.get(name, self.setting.rows))


def on_cpu(folder: Path, precision: str) -> list[Contest]:
    """Return the contests on a CPU: MiniLM at batch 32 and 4, and a small Llama."""
    minilm = Setting("minilm", precision, batch=32, rows=640, warm=96, device="cpu", folder=folder)
    four = replace(minilm, batch=4, rows=160, warm=32)
    return [
        Contest(
            "one trial",
            minilm,
            {
                "ours": ours.one_trial,
                "Trainer, default collator": peers.default_collator,
                "Trainer, grouped by length": peers.grouped_by_length,
                "method_comparison-like loop": peers.method_comparison_like,
                "Trainer, padded to 128": peers.padded_to_128,
                "best matrix product": ours.best_product,
            },
            {"Trainer, padded to 128": 160, "Trainer, default collator": 320},
        ),
        Contest(
            "9 trials, batch 4", four, {"ours, packed": ours.nine_packed, "ours, one by one": ours.nine_one_by_one}, {}
        ),
        Contest(
            "9 trials, batch 32",
            replace(minilm, rows=320),
            {"ours, packed": ours.nine_packed, "ours, one by one": ours.nine_one_by_one},
            {},
        ),
        Contest(
            "a small Llama",
            replace(minilm, model="llama-small", rows=320),
            {"ours": ours.one_trial, "SFTTrainer, loss on every token": peers.sft_trainer},
            {},
        ),
    ]


def on_card(folder: Path, device: str = "cuda", tokenizer: str = TOKENIZER, *, short: bool = False) -> list[Contest]:
    """Return the contests on a GPU: BERT-base and Llama-3.2-1B in true shapes with random weights, in bf16.

    short: whether models and rows are small, to test the code.
    """
    common: dict[str, Any] = {"precision": "bf16", "device": device, "folder": folder, "tokenizer": tokenizer}
    bert = Setting("bert-base", batch=32, rows=3200, warm=640, **common)
    llama = replace(bert, model="llama-3.2-1b", batch=8, rows=160, warm=32, tokens=512)
    if short:
        bert = replace(bert, model="llama-small", batch=4, rows=192, warm=8)
        llama = replace(bert, tokens=256)
    compiled: dict[str, Contestant] = {
        f"ours, compile={how}": partial(ours.one_trial_compiled, how) for how in ("default", "cudagraphs")
    }
    uncompiled: dict[str, Contestant] = {"ours": ours.one_trial}
    others = {"Trainer, default collator": peers.default_collator}
    packs = {"ours, packed": ours.nine_packed, "ours, one by one": ours.nine_one_by_one}
    short_of = {"Trainer, default collator": bert.rows // 2}
    return [
        Contest("BERT-base, one trial", bert, uncompiled | others, short_of),
        Contest("Llama-3.2-1B, 512 tokens", llama, uncompiled | others, {}),
        Contest("BERT-base, 9 trials, batch 32", replace(bert, rows=bert.rows // 3), packs, {}),
        Contest("BERT-base, compiled", bert, uncompiled | ({} if short else compiled), {}),
        Contest("Llama-3.2-1B, 512 tokens, compiled", llama, uncompiled | ({} if short else compiled), {}),
    ]


def fresh(call: Contestant, setting: Setting) -> dict[str, Any] | None:
    """Return the result of the call in a process of its own, or its error."""
    # bitsandbytes initialises CUDA when it is imported, so a forked process could not use CUDA.
    spoilt = setting.device == "cuda" and importlib.util.find_spec("bitsandbytes") is not None
    context: Any = multiprocessing.get_context("spawn" if spoilt else "fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_enter, args=(call, setting, theirs))
    process.start()
    theirs.close()
    try:
        result: dict[str, Any] | None = mine.recv()
    except EOFError:
        result = {"error": f"the process ended with exit code {process.exitcode}"}
    process.join()
    return result


def _enter(call: Contestant, setting: Setting, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        pipe.send(call(setting))
    except Exception as error:  # noqa: BLE001 - the other contestants continue
        pipe.send({"error": f"{type(error).__name__}: {error}"})


def compete(contest: Contest, rounds: int) -> dict[str, Any]:
    """Run all contestants once per round."""
    results: dict[str, list[Any]] = {name: [] for name in contest.contestants}
    for number in range(rounds):
        for name, call, setting in contest.settings():
            print(f"  {contest.name}, round {number + 1}/{rounds}: {name}", file=sys.stderr, flush=True)
            results[name].append(fresh(call, setting))
    setting = {key: getattr(contest.setting, key) for key in ("model", "precision", "batch", "rows")}
    return {"contest": contest.name, "setting": setting, "rows": contest.few, "rounds": results}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="run the contests whose names contain this text")
    return parser.parse_args()


def main() -> None:
    args, done = arguments(), []
    with folder() as place:
        for precision in args.precision:
            contests = [contest for contest in on_cpu(place, precision) if args.only in contest.name]
            done += [compete(contest, args.rounds) for contest in contests]
            done += whole.contests(place, precision, only=args.only)
    device = describe_device(Compute(torch.device("cpu"), torch.float32))
    del device["dtype"]
    result = {"device": device, "provenance": provenance(), "contests": done}
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = table(result)
    print(text)
    if not args.only:
        (RESULTS / "speed-cpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "speed-cpu.md").write_text(text)


if __name__ == "__main__":
    main()
