"""What is to be trained and how: the protocol's part, the method's part, and the trials."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch.optim import Optimizer

from bench.hooks import Hooks


@dataclass(frozen=True)
class Plan:
    """What the protocol says about training."""

    epochs: int
    batch: int
    eval_batch: int
    weight_decay: float
    warmup: float
    clip: float
    data_seed: int

    @classmethod
    def of(cls, protocol: dict[str, Any]) -> "Plan":
        """Take what training needs from the protocol."""
        return cls(**{field.name: protocol[field.name] for field in fields(cls)})

    def steps(self, rows: int) -> int:
        """Updates of a whole training on that many rows."""
        return self.epochs * math.ceil(rows / self.batch)


@dataclass(frozen=True)
class Recipe:
    """How a method is trained: its hooks, and how its optimizer is built."""

    hooks: Hooks
    build: Callable[..., Optimizer]
    lr_ratio: Mapping[str, float]


@dataclass(frozen=True)
class Wanted:
    """A trial as training knows it: its name in events, its learning rate and its seed."""

    trial: str
    lr: float
    seed: int
