"""The state of one trial: its own optimizer, schedule, curve and best checkpoint, also if trials share a model."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.events import Event
from bench.train.batches import Batch
from bench.train.curve import Curve, Measured
from bench.train.optim import make_schedule, optimizer_over
from bench.train.scores import rise_of
from bench.train.settings import Training, Wanted


def three_quarters(total: int) -> int:
    """Return after how many updates the last quarter begins. That quarter shows whether a trial still improves.

    Args:
        total: Updates of the whole training.
    """
    return 3 * total // 4


class Best:
    """The trained weights at the best score on select so far, kept in main memory.

    Of equal scores the last one wins. With few questions many checkpoints score the same, and the later one has been
    trained down to a lower learning rate.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.history: list[float] = []
        self.score, self.epoch = -math.inf, 0
        self.kept: list[Tensor] = []
        self.predictions = torch.empty(0)

    def offer(self, score: float, predictions: Tensor, *, final: bool = True) -> None:
        """Keep the current weights if their score is the best so far.

        Args:
            score: The score on select.
            predictions: The answers to select, [questions].
            final: Whether the weights can be a result of the method. If not, they are never kept.
        """
        self.history.append(score)
        if final and score >= self.score:
            self.kept = [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]
            self.score, self.epoch, self.predictions = score, len(self.history), predictions

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the kept weights back into the parameters."""
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)


class Member:
    """One trial in training."""

    def __init__(
        self,
        wanted: Wanted,
        parameters: Mapping[str, nn.Parameter],
        head: Collection[str],
        training: Training,
        emit: Callable[[Event], None],
    ) -> None:
        """Build the trial's optimizer and schedule.

        Args:
            wanted: The trial.
            parameters: The trained parameters, by name. The pack fills their `.grad`.
            head: The names of the parameters that belong to the task's head.
            training: The settings that the trials share.
            emit: Receives the events of the trial.
        """
        plan, recipe = training.plan, training.recipe
        self.wanted, self.parameters = wanted, parameters
        self.optimizer = optimizer_over(
            parameters,
            head,
            recipe.build,
            lr=wanted.lr,
            weight_decay=plan.weight_decay,
            lr_ratio=recipe.lr_ratio,
            head_lr=recipe.head_lr,
        )
        self.schedule = make_schedule(self.optimizer, training.steps, plan.warmup, plan.warmup_steps)
        self.curve, self.best = Curve(wanted.trial, emit), Best(list(parameters.values()))
        self.select_losses: list[tuple[int, float]] = []  # number of updates, and the mean loss on select after them
        self.late: Tensor | None = None  # the loss of each select question after three quarters of the updates
        self.rise: dict[str, float] | None = None
        self.rate = wanted.lr
        self.seconds: dict[str, float] = defaultdict(float)

    def note(self, steps: int, total: int, losses: Tensor) -> None:
        """Record the losses on select.

        Args:
            steps: Updates so far.
            total: Updates of the whole training.
            losses: The loss of each question of select, [questions].
        """
        self.select_losses.append((steps, float(losses.mean())))
        if steps == total and self.late is not None:
            self.rise = rise_of(self.late, losses)
        if steps == three_quarters(total):
            self.late = losses

    @property
    def finite_losses(self) -> list[tuple[int, float | None]]:
        """`select_losses` for records, which hold only finite numbers: any other loss becomes None."""
        return [(step, loss if math.isfinite(loss) else None) for step, loss in self.select_losses]

    def advance(self) -> None:
        """Store the rate that the optimizer has just used, and set the next one."""
        self.rate = float(self.schedule.get_last_lr()[0])
        self.schedule.step()

    def add(self, measured: Measured, batch: Batch, trials: int) -> None:
        """Add the measurements of an update to the curve.

        Args:
            measured: The measurements.
            batch: The batch of the update.
            trials: How many trials shared the update.

        Raises:
            Diverged: The trial ends here.
            Unsound: The trial ends here.
        """
        self.curve.add(measured, self.rate, batch, trials)

    @property
    def cost(self) -> dict[str, Any]:
        """The time, steps, rows and tokens of this trial. Time spent on a whole pack is divided among its trials."""
        curve, seconds = self.curve, self.seconds["train"]
        return {
            "train_seconds": seconds,
            "eval_seconds": self.seconds["eval"],
            "steps": curve.steps,
            "samples": curve.rows,
            "tokens": curve.tokens,
            "samples_per_second": curve.rows / seconds,
            "tokens_per_second": curve.tokens / seconds,
        }
