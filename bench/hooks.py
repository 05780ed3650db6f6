"""What a method does besides the forward pass. Most do nothing: `Hooks` itself is that nothing."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Hooks:
    """A method names its own in its yaml; the training loop calls all of these, in this order, for every method."""

    @property
    def alone(self) -> str | None:
        """Why a trial cannot share its model with others, None where it can. A method may put it in its own words."""
        steering = ("begin", "penalty", "after_step", "is_final")
        touched = [name for name in steering if getattr(type(self), name) is not getattr(Hooks, name)]
        return f"its hooks steer the model while it trains ({', '.join(touched)})" if touched else None

    def prepare(self, model: nn.Module, batches: Sequence[dict[str, Any]]) -> None:
        """Before the optimizer is made: initialise from data. batches: keyword arguments of the model."""

    def begin(self, model: nn.Module, steps: int) -> None:
        """Before the first of `steps` updates."""

    def penalty(self, model: nn.Module) -> Tensor | None:  # noqa: ARG002 - the signature is the seam
        """A scalar that is added to the loss, and logged apart from it."""
        return None

    def after_step(self, model: nn.Module, step: int) -> None:
        """After update number `step` (from 1), while the gradients are still there."""

    def is_final(self, step: int) -> bool:  # noqa: ARG002
        """Whether the model after that many updates is a result of the method, or still on the way to one."""
        return True
