"""A pack with a single trial, which trains in its own model by ordinary backpropagation."""

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
    """One trial and its model."""

    def __init__(self, model: nn.Module, wanted: Wanted, training: Training, emit: Callable[[Event], None]) -> None:
        """Prepare the training.

        Args:
            model: A fresh model with the method attached and initialised.
            wanted: The trial.
            training: The settings of the cell.
            emit: Receives the events of the trial.

        Raises:
            Unsound: The task's head is frozen, or a weight is not finite.
        """
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
        torch.manual_seed(wanted.seed)  # for random numbers that a method draws besides dropout
        recipe.hooks.begin(model, training.steps)

    def train(self) -> None:
        """Switch to training mode."""
        self.model.train()

    def step(self, batch: Batch) -> list[Measured]:
        """Update once and return one measurement.

        Args:
            batch: A batch on the model's device.
        """
        measured = self.stepper(batch)
        self.members[0].advance()
        return [measured]

    def predict(self, rows: Rows, batch: int) -> Tensor:
        """Return the answers in the rows' order, [1, questions], on the CPU."""
        return predict(self.model, rows, batch, self.training.compute)[None]

    def judge(self, rows: Rows, batch: int) -> tuple[Tensor, Tensor]:
        """Return the answers and their losses in the rows' order, both [1, questions], on the CPU."""
        answers, losses = judge(self.model, rows, batch, self.training.compute)
        return answers[None], losses[None]

    @property
    def is_final(self) -> bool:
        """Whether the model is a result of the method yet, or still an intermediate state."""
        return self.hooks.is_final(self.stepper.steps)

    def check(self) -> None:
        """Check the weights.

        Raises:
            Unsound: A frozen tensor has changed, or no trained tensor except those of the head has.
        """
        self.guard.check(self.model)

    def check_moved(self, member: Member) -> None:
        """Do nothing, because `check` compares the trained weights as well."""

    def drop(self, members: Sequence[Member]) -> None:
        """End the trial."""
        self.members = [member for member in self.members if member not in members]

    def model_of(self, member: Member) -> nn.Module:  # noqa: ARG002 - there is one
        """Return the model with the trial's weights."""
        return self.model
