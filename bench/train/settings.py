"""The settings of a training: those of the protocol, those of the method, and those of each trial."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from torch import Tensor
from torch.optim import Optimizer

from bench.config.schema import ProtocolConf
from bench.hooks import Hooks
from bench.tasks.encoding.rows import Encoded, Rows
from bench.train.batches import Batch, by_length, collate, epoch
from bench.train.device import Compute

HALVINGS = 4  # how often the size of a forward pass may be halved when memory runs out


@dataclass(frozen=True)
class Plan:
    """The training settings of the protocol.

    Attributes:
        epochs: Passes over train. Ignored if `updates` is given.
        batch: Rows per batch. Ignored if `tokens` is given.
        eval_batch: The maximum number of rows per batch in evaluation.
        weight_decay: The weight decay of matrices.
        warmup: The share of the updates during which the learning rate rises. Ignored if `warmup_steps` is given.
        clip: The maximum gradient norm.
        data_seed: Determines the order of the batches.
        tokens: The maximum number of tokens per batch, padding included. None if batches have a number of rows.
        micro: The maximum number of rows per forward pass. None for no limit.
        micro_tokens: The maximum number of tokens per forward pass, padding included. Set if `tokens` is given and
            memory ran out. None for no limit.
        updates: Updates of a whole training. None for those of `epochs` passes.
        warmup_steps: Updates during which the learning rate rises. None for the share `warmup`.
        eval_steps: Updates between two evaluations of select. None for those of one pass.
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
        """Return the plan of a protocol."""
        shared = {field.name: getattr(protocol, field.name) for field in fields(cls) if hasattr(protocol, field.name)}
        return cls(**shared, updates=protocol.steps)

    def cut(self, rows: Rows) -> list[Tensor]:
        """Return the row numbers of each batch, from the shortest rows to the longest."""
        return by_length(rows, self.batch, tokens=self.tokens)

    def largest(self, rows: Rows) -> Batch:
        """Return the batch that needs the most memory: the one with the most tokens per forward pass, with padding.

        This need not be the last batch of `cut`. That one has the longest row, but may be an incomplete batch.
        """

        def tokens(numbers: Tensor) -> int:
            width = rows.each * rows.padded(int(rows.longest[numbers].max()))
            return width * self.at_once(len(numbers), width)

        # Of equally large batches, take the one with the longest rows.
        return collate(rows, max(reversed(self.cut(rows)), key=tokens))

    def parts(self, batch: Batch) -> list[Batch]:
        """Return the parts of a batch that go through the model one after another."""
        return batch.parts(self.at_once(batch.rows, batch.width))

    def at_once(self, rows: int, width: int) -> int:
        """Return how many rows of a batch go through the model in one forward pass.

        Args:
            rows: The rows of the batch.
            width: Tokens per row, padding included.
        """
        fitting = rows if self.micro_tokens is None else max(1, self.micro_tokens // width)
        return min(rows, fitting, self.micro or rows)

    def halved(self, train: Rows, asked: "Plan") -> "Plan | None":
        """Return a plan with half the rows per forward pass, or half the tokens if tokens fill the batches.

        The first halving starts from the size of the largest batch.

        Args:
            train: The rows of train.
            asked: The plan before any halving.

        Returns:
            The new plan. None if the size cannot be halved, or has been halved HALVINGS times.
        """
        if not len(train):
            return None
        size, first_size = self.most_at_once(train), asked.most_at_once(train)
        if size // 2 < max(1, first_size >> HALVINGS):
            return None
        return replace(self, micro=size // 2) if self.tokens is None else replace(self, micro_tokens=size // 2)

    def most_at_once(self, train: Rows) -> int:
        """Return the maximum number of rows per forward pass, or of tokens if tokens fill the batches.

        With tokens, the result is 0 if the largest forward pass has a single row, which cannot be split.
        """
        if self.tokens is None:
            largest = max(map(len, self.cut(train)))
            return min(largest, self.micro or largest)
        part = self.parts(self.largest(train))[0]
        return part.rows * part.width if part.rows > 1 else 0

    @property
    def at_most(self) -> dict[str, int | None]:
        """The limits on the size of a forward pass, as records store them."""
        return {"micro": self.micro, "micro_tokens": self.micro_tokens}

    def steps(self, rows: Rows) -> int:
        """Return the number of updates of a whole training."""
        return self.epochs * len(self.cut(rows)) if self.updates is None else self.updates

    def steps_apart(self, rows: Rows) -> int:
        """Return the number of updates between two evaluations of select."""
        return self.eval_steps or len(self.cut(rows))

    def one_pass(self, rows: Rows, *, number: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one pass.

        Args:
            rows: The rows of train.
            number: The number of the pass, from 0.
            seed: The trial's seed, which determines which rows fill each batch.
        """
        return epoch(rows, self.batch, number=number, seed=seed, data_seed=self.data_seed, tokens=self.tokens)


@dataclass(frozen=True)
class Recipe:
    """How a method is trained.

    Attributes:
        hooks: The hooks of the method.
        build: Builds the optimizer, as for `optimizer_over`.
        lr_ratio: Factors on the learning rate of some parameters, as for `optimizer_over`.
        head_lr: The learning rate of the head, as for `optimizer_over`. None for the trial's rate.
    """

    hooks: Hooks
    build: Callable[..., Optimizer]
    lr_ratio: Mapping[str, float]
    head_lr: float | None = None


@dataclass(frozen=True)
class Training:
    """The settings that the trials of a cell share.

    Attributes:
        data: The task's parts as token ids.
        plan: The settings of the protocol.
        recipe: The settings of the method.
        compute: The device and the arithmetic.
    """

    data: Encoded
    plan: Plan
    recipe: Recipe
    compute: Compute

    @property
    def steps(self) -> int:
        """The number of updates of a whole training."""
        return self.plan.steps(self.data.train)


@dataclass(frozen=True)
class Wanted:
    """A trial that is to be trained.

    Attributes:
        trial: The name of the trial in events.
        lr: The learning rate.
        seed: The seed.
    """

    trial: str
    lr: float
    seed: int
