"""Count the parameters that a method trains."""

import math
from dataclasses import dataclass

from torch import nn

from bench.models.structure import is_head


@dataclass(frozen=True)
class Parameters:
    """Parameter counts of a model with its method attached.

    Attributes:
        trainable: Trained parameters.
        head: The trained parameters that belong to the task's head.
        total: All parameters.
    """

    trainable: int
    head: int
    total: int

    @property
    def percent(self) -> float:
        """Trained parameters in percent of all."""
        return 100 * self.trainable / self.total


def count(model: nn.Module) -> Parameters:
    """Count the parameters of a model. The frozen copy that PEFT keeps of a trained head is not counted."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if ".original_module." not in name]
    trained = [(name, parameter.numel()) for name, parameter in named if parameter.requires_grad]
    return Parameters(
        trainable=sum(size for _, size in trained),
        head=sum(size for name, size in trained if is_head(name, model)),
        total=sum(_size(parameter) for _, parameter in named),
    )


def _size(parameter: nn.Parameter) -> int:
    """Return how many numbers a parameter represents. A 4-bit parameter stores two in a byte."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)
