"""What a method does besides the forward pass. `Hooks` itself does nothing, which is enough for most methods."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Hooks:
    """Callbacks of a method. The method's yaml names its subclass.

    The training loop calls all of these methods, in this order, for every fine-tuning method.
    """

    @property
    def alone(self) -> str | None:
        """Why a trial cannot share its model with others, or None if it can. A subclass may state its own reason."""
        steering = ("begin", "penalty", "after_step", "is_final")
        overridden = [name for name in steering if getattr(type(self), name) is not getattr(Hooks, name)]
        return f"its hooks steer the model while it trains ({', '.join(overridden)})" if overridden else None

    def prepare(self, model: nn.Module, batches: Sequence[dict[str, Any]]) -> None:
        """Initialise the model from data, before the optimizer is created.

        Args:
            model: The model with the method attached.
            batches: Batches of training data, as keyword arguments of the model.
        """

    def begin(self, model: nn.Module, steps: int) -> None:
        """Prepare for training. Called before the first of `steps` updates."""

    def penalty(self, model: nn.Module) -> Tensor | None:  # noqa: ARG002 - the signature is the seam
        """Return a scalar that is added to the loss and logged separately, or None."""
        return None

    def after_step(self, model: nn.Module, step: int) -> None:
        """Act after update number `step` (from 1). The gradients are still available."""

    def is_final(self, step: int) -> bool:  # noqa: ARG002
        """Return whether the model after `step` updates is a valid result of the method, not an intermediate state."""
        return True
