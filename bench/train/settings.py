"""What is to be trained and how: the protocol's part, the method's part, and the trials."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from torch import Tensor
from torch.optim import Optimizer

from bench.config.schema import ProtocolConf
from bench.hooks import Hooks
from bench.tasks.encoding.rows import Encoded, Rows
from bench.train.batches import Batch, by_length, collate, epoch
from bench.train.device import Compute

HALVINGS = 4  # of what goes through the model at once, where memory runs out


@dataclass(frozen=True)
class Plan:
    """What the protocol says about training.

    updates: of a whole training; None: those of `epochs` passes. warmup_steps: goes before `warmup`, a share.
    eval_steps: updates from one judgement of select to the next; None: those of a pass.
    micro_tokens: tokens, padding included, that go through the model at once; set where tokens fill the batches and
    memory ran out. None: no limit.
    """

    epochs: int
    batch: int
    eval_batch: int
    weight_decay: float
    warmup: float
    clip: float
    data_seed: int
    tokens: int | None = None
    micro: int | None = None
    micro_tokens: int | None = None
    updates: int | None = None
    warmup_steps: int | None = None
    eval_steps: int | None = None

    @classmethod
    def of(cls, protocol: ProtocolConf) -> "Plan":
        """Take what training needs from the protocol."""
        given = {field.name: getattr(protocol, field.name) for field in fields(cls) if hasattr(protocol, field.name)}
        return cls(**given, updates=protocol.steps)

    def cut(self, rows: Rows) -> list[Tensor]:
        """The numbers of the rows in each batch, from the shortest to the longest."""
        return by_length(rows, self.batch, tokens=self.tokens)

    def largest(self, rows: Rows) -> Batch:
        """The batch that needs the most memory: the most tokens, padding included, go through the model at once.

        It need not be the last one of `cut`: that one has the longest row, but may be a remainder.
        """

        def tokens(numbers: Tensor) -> int:
            width = rows.each * rows.padded(int(rows.longest[numbers].max()))
            return width * self.at_once(len(numbers), width)

        return collate(rows, max(reversed(self.cut(rows)), key=tokens))  # of equals the one with the longer rows

    def parts(self, batch: Batch) -> list[Batch]:
        """The parts of a batch that go through the model one after the other."""
        return batch.parts(self.at_once(batch.rows, batch.width))

    def at_once(self, rows: int, width: int) -> int:
        """Rows of a batch that go through the model at once. rows: that it has. width: tokens of each with padding."""
        fitting = rows if self.micro_tokens is None else max(1, self.micro_tokens // width)
        return min(rows, fitting, self.micro or rows)

    def halved(self, train: Rows, asked: "Plan") -> "Plan | None":
        """The plan with half as much at once; None where that cannot be, or has been done HALVINGS times.

        Halves the rows or, where tokens fill the batches, the tokens, beginning with what the largest batch has.
        asked: the plan before any halving.
        """
        if not len(train):
            return None
        now, first = self.most_at_once(train), asked.most_at_once(train)
        if now // 2 < max(1, first >> HALVINGS):
            return None
        return replace(self, micro=now // 2) if self.tokens is None else replace(self, micro_tokens=now // 2)

    def most_at_once(self, train: Rows) -> int:
        """Rows or tokens that go through the model at once, at most; 0 where one row is too much already."""
        if self.tokens is None:
            most = max(map(len, self.cut(train)))
            return min(most, self.micro or most)
        part = self.parts(self.largest(train))[0]
        return part.rows * part.width if part.rows > 1 else 0

    @property
    def at_most(self) -> dict[str, int | None]:
        """What a record says of it."""
        return {"micro": self.micro, "micro_tokens": self.micro_tokens}

    def steps(self, rows: Rows) -> int:
        """Updates of a whole training."""
        return self.epochs * len(self.cut(rows)) if self.updates is None else self.updates

    def steps_apart(self, rows: Rows) -> int:
        """Updates from one judgement of select to the next."""
        return self.eval_steps or len(self.cut(rows))

    def one_pass(self, rows: Rows, *, number: int, seed: int) -> Iterator[Batch]:
        """The batches of one epoch for the trials of a seed."""
        return epoch(rows, self.batch, number=number, seed=seed, data_seed=self.data_seed, tokens=self.tokens)


@dataclass(frozen=True)
class Recipe:
    """How a method is trained: its hooks, and how its optimizer is built.

    lr_ratio, head_lr: as for `optimizer_over`.
    """

    hooks: Hooks
    build: Callable[..., Optimizer]
    lr_ratio: Mapping[str, float]
    head_lr: float | None = None


@dataclass(frozen=True)
class Training:
    """What the trials of a cell have in common.

    Attributes:
        data: The task's parts as token ids.
        plan: What the protocol says.
        recipe: What the method says.
        compute: Where it is computed, and in which arithmetic.
    """

    data: Encoded
    plan: Plan
    recipe: Recipe
    compute: Compute

    @property
    def steps(self) -> int:
        """Updates of a whole training."""
        return self.plan.steps(self.data.train)


@dataclass(frozen=True)
class Wanted:
    """A trial as training knows it: its name in events, its learning rate and its seed."""

    trial: str
    lr: float
    seed: int
