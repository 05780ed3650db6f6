"""Nine trials of a cell in a pack beside the same trials one by one: same process, in turns.

make bench
"""

import json
from dataclasses import replace
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
from bench.tasks.encode import Encoded, encode
from bench.tasks.task import Task
from bench.train.alone import Alone
from bench.train.loop import Pack, run_trials
from bench.train.packed import Packed
from bench.train.plan import Plan, Wanted
from bench.train.start import gather, rehearse, sample_of

pytestmark = pytest.mark.perf

RATES, SEEDS, ROUNDS = (1e-3, 5e-4, 1e-4), (0, 1, 2), 3
ROWS = {4: 160, 32: 320}
FLOOR = {4: 1.0, 32: 0.5}  # aimed at 1.4 and 0.95: see the changelog; pack=auto does not pack at batch 32
CPU = torch.device("cpu")
RESULT = Path(__file__).resolve().parents[2] / "results" / "perf" / "packs.json"


class Contest:
    """One cell, one batch size, one precision."""

    def __init__(self, cell: Cell, data: Encoded, batch: int, dtype: torch.dtype) -> None:
        self.cell, self.dtype, self.fast = cell, dtype, pick_fast(cell.config["fast"], CPU, dtype)
        self.data = replace(data, train=data.train.first(ROWS[batch]))
        self.plan = Plan(1, batch, 128, weight_decay=0.01, warmup=0.06, clip=1.0, data_seed=0)

    def prepared(self, seed: int) -> torch.nn.Module:
        model = build(self.cell, seed=seed, device=CPU, dtype=self.dtype)
        rehearse(model, self.data, self.plan, recipe_of(self.cell).hooks, self.dtype)
        return model

    def alone(self) -> float:
        """Samples per second of single trials, one per seed."""
        steps, recipe = self.plan.steps(len(self.data.train)), recipe_of(self.cell)
        return median(
            self.speed(
                Alone(
                    quicken(self.prepared(seed), self.fast),
                    Wanted(str(seed), RATES[1], seed),
                    recipe,
                    self.plan,
                    steps,
                    dtype=self.dtype,
                    emit=lambda _: None,
                )
            )
            for seed in SEEDS
        )

    def packed(self) -> float:
        """Samples per second of nine trials in a pack, all of theirs counted."""
        steps, sample = self.plan.steps(len(self.data.train)), sample_of(self.data.train)
        frame, starts = gather(((seed, self.prepared(seed)) for seed in SEEDS), sample, self.dtype)
        wanted = [Wanted(f"{rate}-{seed}", rate, seed) for rate in RATES for seed in SEEDS]
        pack = Packed(
            quicken(frame, self.fast),
            starts,
            wanted,
            recipe_of(self.cell),
            self.plan,
            steps,
            dtype=self.dtype,
            emit=lambda _: None,
        )
        pack.verify(starts, sample)
        return self.speed(pack)

    def speed(self, pack: Pack) -> float:
        ends = [end for _, end in run_trials(pack, self.data, self.plan, lambda _: None)]
        costs = [end.cost for end in ends if isinstance(end, Ended) and end.cost]
        assert len(costs) == len(ends)
        return sum(cost["samples"] for cost in costs) / sum(cost["train_seconds"] for cost in costs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch", list(ROWS))
@pytest.mark.filterwarnings("ignore")
def test_a_pack_beside_single_trials(batch: int, precision: str, tmp_path: Path) -> None:
    (cell,) = cells(["method=lora", "rank=8"], multirun=False)
    train = phrases(load_task(cell).train, max(ROWS.values()))
    few = train.take(range(32))
    data = encode(Task(train, few, few), load_tokenizer(cell.source), 128, tmp_path)
    contest = Contest(cell, data, batch, torch.bfloat16 if precision == "bf16" else torch.float32)
    speeds: dict[str, list[float]] = {"alone": [], "packed": []}
    for _ in range(ROUNDS):
        speeds["alone"].append(contest.alone())
        speeds["packed"].append(contest.packed())
    ratios = [ours / theirs for ours, theirs in zip(speeds["packed"], speeds["alone"], strict=True)]
    print(f"{precision} batch {batch}: 9 packed trials {median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[f"{precision}, batch {batch}"] = {
        "samples_per_second": speeds,
        "ratio": median(ratios),
        "fast": contest.fast.told(),
        "rows": ROWS[batch],
        "threads": torch.get_num_threads(),
    }
    RESULT.write_text(json.dumps(known, indent=1) + "\n")
    assert median(ratios) >= FLOOR[batch]
