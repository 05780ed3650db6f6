"""Trials that take a moment: a random model of width 32, and a task of random tokens that it can learn."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import AutoConfig

from bench.events import Ended, Event, Stepped
from bench.hooks import Hooks
from bench.models.load import load_model
from bench.models.quant import Quant
from bench.models.source import Source
from bench.tasks.encoding.rows import Encoded, Rows
from bench.train.device import Compute
from bench.train.loop import run_trials
from bench.train.packed.start import rehearse
from bench.train.settings import Plan, Recipe, Training, Wanted
from bench.train.single import Alone

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
PLAN = Plan(epochs=1, batch=8, eval_batch=32, weight_decay=0.01, warmup=0.0, clip=1.0, data_seed=0)
CPU = torch.device("cpu")
FP32, BF16 = (Compute(CPU, dtype) for dtype in (torch.float32, torch.bfloat16))


def source(kind: str = "bert", width: int = 32) -> Source:
    """Return a model with random weights that is stored in no folder."""
    config = AutoConfig.for_model(kind, **SIZES | {"hidden_size": width}).to_dict()
    return Source("tiny", "nowhere", None, "random:tiny", random=True, config=config)


def small(kind: str = "bert", quant: Quant | None = None, width: int = 32) -> nn.Module:
    return load_model(source(kind, width), 2, seed=0, dropout=0.0, quant=quant)


def rows(count: int, seed: int) -> Rows:
    """Return texts of 4 to 12 tokens. A first token below 10 means the first label."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 13, (count,), generator=generator)
    starts = lengths.cumsum(0) - lengths
    labels = torch.arange(count) % 2
    ids = torch.randint(20, 60, (int(lengths.sum()),), generator=generator)
    ids[starts] = torch.randint(1, 10, (count,), generator=generator) + 10 * labels
    return Rows(ids, starts, lengths, labels, pad_id=0)


DATA = Encoded(rows(64, seed=0), rows(24, seed=1), rows(24, seed=2))


def adamw(groups: Any, lr: float) -> Optimizer:
    return torch.optim.AdamW(groups, lr=lr)


def training(data: Encoded = DATA, plan: Plan = PLAN, recipe: Recipe | None = None) -> Training:
    """Return a training on a CPU in fp32, by AdamW without hooks unless a recipe is given."""
    return Training(data, plan, recipe or Recipe(Hooks(), adamw, {}), FP32)


def train(
    model: nn.Module, hooks: Hooks | None = None, *, plan: Plan = PLAN, lr: float = 1e-2, data: Encoded = DATA
) -> tuple[Ended, dict[str, list[float]]]:
    """Run a trial. Returns the event that ended it, and its curve."""
    events: list[Event] = []
    settings = training(data, plan, Recipe(hooks or Hooks(), adamw, {}))
    rehearse(model, settings)
    pack = Alone(model, Wanted("one", lr, 0), settings, events.append)
    ((_, ended),) = run_trials(pack, events.append)
    if isinstance(ended, Exception):
        raise ended
    curve: dict[str, list[float]] = {}
    for event in events:
        for name, values in event.curve.items() if isinstance(event, Stepped) else ():
            curve.setdefault(name, []).extend(values)
    return ended, curve
