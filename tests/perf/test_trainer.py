"""Our loop beside transformers' Trainer: same cell, same rows, same precision, same process, in turns.

    make bench

The texts have SST-2's lengths (words per training phrase, below), cut from the embedded reviews.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from bench.build import build, load_task, recipe_of
from bench.cell import Cell
from bench.grid import cells
from bench.models.load import load_tokenizer
from bench.tasks.encode import Encoded, Rows, encode
from bench.tasks.task import Split, Task
from bench.train.loop import Plan, run_trial

pytestmark = pytest.mark.perf

# Every fifth percentile of the number of words in SST-2's 67,349 training phrases.
WORDS = [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 18, 21, 26, 52]
ROWS, BATCH, ROUNDS = 640, 32, 3
RESULT = Path(__file__).resolve().parents[2] / "results" / "perf" / "trainer.json"


def phrases(reviews: Split) -> Split:
    """As many texts as rows, with SST-2's lengths."""
    words = " ".join(reviews.texts).split()
    lengths = np.interp(np.random.default_rng(0).random(ROWS), np.linspace(0, 1, len(WORDS)), WORDS).round().astype(int)
    ends = np.cumsum(lengths)
    return Split(
        [" ".join(words[end - length : end]) for end, length in zip(ends, lengths, strict=True)], reviews.labels[:ROWS]
    )


def ours(cell: Cell, data: Encoded, dtype: torch.dtype) -> float:
    model = build(cell, seed=0, device=torch.device("cpu"), dtype=dtype)
    plan = Plan(epochs=1, batch=BATCH, eval_batch=128, weight_decay=0.01, warmup=0.06, clip=1.0, data_seed=0)
    ended = run_trial(
        model, data, plan, recipe_of(cell), trial="ours", lr=5e-4, seed=0, dtype=dtype, emit=lambda _: None
    )
    assert ended.cost is not None
    return float(ended.cost["samples_per_second"])


def trainer(cell: Cell, rows: Rows, dtype: torch.dtype, folder: Path, **settings: object) -> float:
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model = build(cell, seed=0, device=torch.device("cpu"), dtype=dtype)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=5e-4,
        weight_decay=0.01,
        warmup_steps=1,
        max_grad_norm=1.0,
        use_cpu=True,
        bf16=dtype is torch.bfloat16,
        logging_steps=10,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
        **settings,
    )
    items = [
        {"input_ids": ids.tolist(), "labels": int(label)}
        for ids, label in zip(torch.split(rows.ids, rows.lengths.tolist()), rows.labels, strict=True)
    ]
    collator = DataCollatorWithPadding(load_tokenizer(cell.source))
    peer = Trainer(model=model, args=arguments, train_dataset=items, data_collator=collator)
    began = time.perf_counter()
    peer.train()
    return len(items) / (time.perf_counter() - began)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.filterwarnings("ignore")
def test_our_loop_is_at_least_two_and_a_half_times_the_trainer(precision: str, tmp_path: Path) -> None:
    (cell,) = cells(["method=lora", "rank=8"], multirun=False)
    train = phrases(load_task(cell).train)
    few = train.take(range(32))
    data = encode(Task(train, few, few), load_tokenizer(cell.source), 128, tmp_path)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    contestants: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(cell, data, dtype),
        "Trainer, default collator": lambda: trainer(cell, data.train, dtype, tmp_path),
        "Trainer, grouped by length": lambda: trainer(
            cell, data.train, dtype, tmp_path, train_sampling_strategy="group_by_length"
        ),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, contest in contestants.items():
            speeds[name].append(contest())
    ratios = {
        name: median(a / b for a, b in zip(speeds["ours"], values, strict=True)) for name, values in speeds.items()
    }
    for name, values in speeds.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{precision} {name}: {median(values):.0f} samples/s ({spread}), ours is {ratios[name]:.2f}x")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[precision] = {
        "samples_per_second": speeds,
        "ratio": ratios,
        "rows": ROWS,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
    }
    RESULT.write_text(json.dumps(known, indent=1) + "\n")
    assert ratios["Trainer, default collator"] >= 2.5
