"""EVA: start LoRA's A from the singular vectors of the activations (Paischer et al. 2024, arXiv:2410.07170)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.hooks import Hooks


class FromActivations(Hooks):
    """Initialises LoRA from the activations of training batches, run until the singular vectors converge."""

    def prepare(self, model: nn.Module, batches: Sequence[dict[str, Any]]) -> None:
        from peft.tuners.lora.eva import initialize_lora_eva_weights

        # The library needs a mask even if nothing is padded.
        masked = [batch | {"attention_mask": _mask(batch)} for batch in batches]
        initialize_lora_eva_weights(model, dataloader=masked, show_progress_bar=False)


def _mask(batch: dict[str, Any]) -> Tensor:
    mask: Tensor | None = batch["attention_mask"]
    return torch.ones_like(batch["input_ids"]) if mask is None else mask
