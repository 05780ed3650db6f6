"""Our loop beside transformers' Trainer: same cell, same rows, same precision, same process, in turns.

    make bench

The texts have SST-2's lengths, cut from the embedded reviews.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch
from sst2_lengths import phrases

from bench.build import build, load_task, recipe_of
from bench.cell import Cell
from bench.events import Ended
from bench.grid import cells
from bench.models.fast import pick_fast, quicken
from bench.models.load import load_tokenizer
from bench.tasks.encode import Encoded, Rows, encode
from bench.tasks.task import Task
from bench.train.alone import Alone
from bench.train.loop import run_trials
from bench.train.plan import Plan, Wanted
from bench.train.start import rehearse

pytestmark = pytest.mark.perf

ROWS, BATCH, ROUNDS = 640, 32, 3
RESULT = Path(__file__).resolve().parents[2] / "results" / "perf" / "trainer.json"


def ours(cell: Cell, data: Encoded, dtype: torch.dtype) -> float:
    model = build(cell, seed=0, device=torch.device("cpu"), dtype=dtype)
    plan = Plan(epochs=1, batch=BATCH, eval_batch=128, weight_decay=0.01, warmup=0.06, clip=1.0, data_seed=0)
    recipe, steps = recipe_of(cell), plan.steps(len(data.train))
    rehearse(model, data, plan, recipe.hooks, dtype)
    quicken(model, pick_fast(cell.config["fast"], torch.device("cpu"), dtype))
    pack = Alone(model, Wanted("ours", 5e-4, 0), recipe, plan, steps, dtype=dtype, emit=lambda _: None)
    ((_, ended),) = run_trials(pack, data, plan, lambda _: None)
    assert isinstance(ended, Ended)
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
    train = phrases(load_task(cell).train, ROWS)
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
