"""The optimizer, its schedule and one training step, the same for every method."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from bench.train.batches import Batch
from bench.train.evaluate import forward
from bench.train.precision import autocast


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def make_optimizer(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> AdamW:
    """AdamW; matrices decay, biases and layer norms do not (as BERT was trained)."""
    parameters = list(parameters)
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=lr, fused=True)


def make_schedule(optimizer: AdamW, steps: int, warmup: float) -> LRScheduler:
    """Linear warm-up over a share of the steps, then linear to zero."""
    return get_linear_schedule_with_warmup(optimizer, round(warmup * steps), steps)


def step(
    model: nn.Module, batch: Batch, parameters: list[nn.Parameter], optimizer: AdamW, clip: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """One update. Gives loss and gradient norm before clipping, as tensors on the device: reading them would wait."""
    with autocast(batch.labels.device, dtype):
        logits = forward(model, batch)
    loss = nn.functional.cross_entropy(logits, batch.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach(), norm
