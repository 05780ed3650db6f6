"""What is to be trained and how: the protocol's part, the method's part, and the trials."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bench.hooks import Hooks
from bench.tasks.encode import Rows
from bench.train.batches import Batch, by_length, epoch


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
    tokens: int | None = None
    micro: int | None = None

    @classmethod
    def of(cls, protocol: dict[str, Any]) -> "Plan":
        """Take what training needs from the protocol."""
        return cls(**{field.name: protocol[field.name] for field in fields(cls)})

    def cut(self, rows: Rows) -> list[Tensor]:
        """The numbers of the rows in each batch, from the shortest to the longest."""
        return by_length(rows, self.batch, tokens=self.tokens)

    def steps(self, rows: Rows) -> int:
        """Updates of a whole training."""
        return self.epochs * len(self.cut(rows))

    def one_pass(self, rows: Rows, *, number: int, seed: int) -> Iterator[Batch]:
        """The batches of one epoch for the trials of a seed."""
        return epoch(rows, self.batch, number=number, seed=seed, data_seed=self.data_seed, tokens=self.tokens)


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
