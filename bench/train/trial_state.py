"""One trial of a pack: its own optimizer, schedule, curve and best checkpoint, whoever it shares the model with."""

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
    """The updates after which the last quarter begins, which shows whether a trial still improves."""
    return 3 * total // 4


class Best:
    """The trained weights at the best score on select so far, kept in main memory; the last of equals wins.

    Few questions leave many checkpoints equal, and the later one was trained to a lower rate.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.history: list[float] = []
        self.score, self.epoch = -math.inf, 0
        self.kept: list[Tensor] = []
        self.predictions = torch.empty(0)

    def offer(self, score: float, predictions: Tensor, *, final: bool = True) -> None:
        """Keep the weights if the score is the best yet. final: whether they may be the method's result at all."""
        self.history.append(score)
        if final and score >= self.score:
            self.kept = [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]
            self.score, self.epoch, self.predictions = score, len(self.history), predictions

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)


class Member:
    """A trial. parameters: what it trains, by name, with a `.grad` that whoever steps the pack fills."""

    def __init__(
        self,
        wanted: Wanted,
        parameters: Mapping[str, nn.Parameter],
        head: Collection[str],
        training: Training,
        emit: Callable[[Event], None],
    ) -> None:
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
        self.select_losses: list[tuple[int, float]] = []  # by number of updates: the mean loss on select
        self.late: Tensor | None = None  # the loss of each question of select at three quarters of the updates
        self.rise: dict[str, float] | None = None
        self.rate = wanted.lr
        self.seconds: dict[str, float] = defaultdict(float)

    def note(self, steps: int, total: int, losses: Tensor) -> None:
        """Note the losses on select, [questions], after so many updates of all."""
        self.select_losses.append((steps, float(losses.mean())))
        if steps == total and self.late is not None:
            self.rise = rise_of(self.late, losses)
        if steps == three_quarters(total):
            self.late = losses

    @property
    def finite_losses(self) -> list[tuple[int, float | None]]:
        """`select_losses` for records, which hold no number that is not finite; None stands in its place."""
        return [(step, loss if math.isfinite(loss) else None) for step, loss in self.select_losses]

    def advance(self) -> None:
        """Note the rate that the optimizer has just used, and set the next one."""
        self.rate = float(self.schedule.get_last_lr()[0])
        self.schedule.step()

    def add(self, measured: Measured, batch: Batch, trials: int) -> None:
        """Note what the update told. trials: how many shared it. Diverged, Unsound: the trial ends here."""
        self.curve.add(measured, self.rate, batch, trials)

    @property
    def cost(self) -> dict[str, Any]:
        """What this trial took; of what was done for the whole pack at once, its share."""
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
