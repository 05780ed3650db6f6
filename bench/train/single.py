"""A pack of one: the trial trains in the model itself, by ordinary backpropagation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bench.events import Event
from bench.models.structure import trained
from bench.tasks.encoding.rows import Rows
from bench.train.batches import Batch
from bench.train.curve import Measured
from bench.train.evaluate import judge, predict
from bench.train.guard import Guard
from bench.train.settings import Training, Wanted
from bench.train.step import Stepper
from bench.train.trial_state import Member


class Alone:
    """One trial and its model, freshly attached and prepared."""

    def __init__(self, model: nn.Module, wanted: Wanted, training: Training, emit: Callable[[Event], None]) -> None:
        plan, recipe = training.plan, training.recipe
        self.model, self.training, self.hooks = model, training, recipe.hooks
        self.seeds = [wanted.seed]
        head, body = trained(model)
        member = Member(wanted, head | body, head, training, emit)
        self.stepper = Stepper(
            model,
            member.optimizer,
            recipe.hooks,
            clip=plan.clip,
            compute=training.compute,
            parts=plan.parts,
            seed=wanted.seed,
        )
        self.members = [member]
        self.guard = Guard(model)
        torch.manual_seed(wanted.seed)  # what a method draws besides dropout
        recipe.hooks.begin(model, training.steps)

    def train(self) -> None:
        self.model.train()

    def step(self, batch: Batch) -> list[Measured]:
        """Update once from a batch that is on the model's device."""
        measured = self.stepper(batch)
        self.members[0].advance()
        return [measured]

    def predict(self, rows: Rows, batch: int) -> Tensor:
        """The likeliest labels: [1, rows]."""
        return predict(self.model, rows, batch, self.training.compute)[None]

    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        """The answers and their losses: both [1, questions]."""
        answers, losses = judge(self.model, rows, batch, self.training.compute)
        return answers[None], losses[None]

    @property
    def is_final(self) -> bool:
        """Whether the model is a result of the method by now."""
        return self.hooks.is_final(self.stepper.steps)

    def check(self) -> None:
        """Unsound: the frozen weights have moved, or the trained ones have not."""
        self.guard.check(self.model)

    def check_moved(self, member: Member) -> None:
        """As for a pack; `check` has seen it."""

    def drop(self, members: Sequence[Member]) -> None:
        """End the trial."""
        self.members = [member for member in self.members if member not in members]

    def model_of(self, member: Member) -> nn.Module:  # noqa: ARG002 - there is one
        """The model with the trial's weights in it."""
        return self.model
