"""The optimizer, its schedule and one training step, the same for every method."""

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


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Matrices decay; biases and layer norms do not (as BERT was trained), nor do IA3's factors, which start at 1."""
    return parameter.ndim > 1 and ".ia3_l." not in name


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> AdamW:
    """AdamW over what is trainable."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[decays(name, parameter)].append(parameter)
    return AdamW(
        [{"params": group, "weight_decay": weight_decay * decay} for decay, group in groups.items() if group],
        lr=lr,
        fused=True,
    )


def make_schedule(optimizer: AdamW, steps: int, warmup: float) -> LRScheduler:
    """Linear warm-up over a share of the steps, then linear to zero."""
    schedule: LRScheduler = get_linear_schedule_with_warmup(optimizer, round(warmup * steps), steps)
    return schedule


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
