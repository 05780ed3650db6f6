"""AdaLoRA's rank schedule and regulariser (Zhang et al. 2023, arXiv:2303.10512) for PEFT's AdaLoraModel."""

from typing import Any

import torch
from torch import Tensor, nn

from bench.hooks import Hooks


class RankSchedule(Hooks):
    """Prune from the initial rank to the target rank during training.

    Attributes:
        warmup: Share of the steps at the beginning with the full rank.
        final: Share of the steps at the end with fixed ranks.
        every: Number of steps between two prunings.
        steps: Steps of the training, set by `begin`.
        fixed_from: The step from which the ranks are fixed, set by `begin`.
    """

    alone: str | None = "AdaLoRA reallocates ranks during training"

    def __init__(self, warmup: float, final: float, every: int) -> None:
        self.warmup, self.final, self.every = warmup, final, every
        self.steps, self.fixed_from = 0, 0

    def begin(self, model: nn.Module, steps: int) -> None:
        tuner = _tuner(model)
        config = tuner.peft_config[tuner.trainable_adapter_name]
        # Ranks are fixed at the second step at the earliest, because importance must have been measured once.
        self.steps, self.fixed_from = steps, max(2, steps - round(self.final * steps))
        config.tinit, config.tfinal = min(round(self.warmup * steps), self.fixed_from - 1), steps - self.fixed_from
        config.deltaT, config.total_step = self.every, steps
        tuner.rankallocator.set_total_step(steps)

    def penalty(self, model: nn.Module) -> Tensor:
        """Return the regulariser of equation 4.

        Returns:
            A scalar: the mean Frobenius distance of the singular vectors' Gram matrices from the identity, times its
            weight.
        """
        tuner = _tuner(model)
        distances = []
        for name, matrix in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
                distances.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        weight = tuner.peft_config[tuner.trainable_adapter_name].orth_reg_weight
        mean: Tensor = weight * torch.stack(distances).mean()
        return mean

    def after_step(self, model: nn.Module, step: int) -> None:
        if self.steps > 1:
            _tuner(model).update_and_allocate(step)

    def is_final(self, step: int) -> bool:
        return step >= min(self.fixed_from, self.steps)


def _tuner(model: nn.Module) -> Any:
    return model.base_model
