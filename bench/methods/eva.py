"""EVA: LoRA's A from the singular vectors of the activations (Paischer et al. 2024, arXiv:2410.07170)."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from bench.hooks import Hooks


class FromActivations(Hooks):
    """Runs batches of the training data through the model until the singular vectors settle."""

    def prepare(self, model: nn.Module, batches: Sequence[dict[str, Any]]) -> None:
        from peft.tuners.lora.eva import initialize_lora_eva_weights

        initialize_lora_eva_weights(model, dataloader=batches, show_progress_bar=False)
