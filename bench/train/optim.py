"""The optimizer and its schedule."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from bench.models.structure import trained


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Matrices decay; biases and layer norms do not (as BERT was trained), nor do IA3's factors, which start at 1."""
    return parameter.ndim > 1 and ".ia3_l." not in name


def make_optimizer(model: nn.Module, build: Callable[..., Optimizer], **settings: Any) -> Optimizer:
    """An optimizer over what a model trains; settings as for `optimizer_over`."""
    head, body = trained(model)
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in head | body}
    return optimizer_over(parameters, head, build, **settings)


def optimizer_over(
    parameters: Mapping[str, nn.Parameter],
    head: Collection[str],
    build: Callable[..., Optimizer],
    *,
    lr: float,
    weight_decay: float,
    lr_ratio: Mapping[str, float],
    head_lr: float | None = None,
) -> Optimizer:
    """Build an optimizer over what is trained.

    Args:
        parameters: what is trained, by name.
        head: which of the names are the task's head.
        build: takes groups of parameters and `lr=`.
        lr: the trial's learning rate.
        weight_decay: of matrices.
        lr_ratio: multiplies the rate of parameters below the head whose name holds the key.
        head_lr: the head's own rate; None: the trial's.

    Returns:
        The optimizer. The rate of its first group is the plain one where any parameter has that, and the head's own
        only where nothing else is trained.
    """

    def rate_of(name: str) -> float:
        if name in head:
            return lr if head_lr is None else head_lr
        return lr * next((ratio for part, ratio in lr_ratio.items() if part in name), 1.0)

    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name in sorted(parameters, key=lambda name: name in head):
        groups.setdefault((rate_of(name), decays(name, parameters[name])), []).append(parameters[name])
    settings: list[dict[str, Any]] = [
        {"params": members, "lr": rate, "weight_decay": weight_decay * decay}
        for (rate, decay), members in sorted(groups.items(), key=lambda group: group[0][0] != lr)
    ]
    return build(settings, lr=lr)


def make_schedule(optimizer: Optimizer, steps: int, warmup: float, warmup_steps: int | None = None) -> LRScheduler:
    """Linear warm-up, then linear to zero. warmup: a share of the steps. warmup_steps: their number; goes before it."""
    rising = round(warmup * steps) if warmup_steps is None else warmup_steps
    schedule: LRScheduler = get_linear_schedule_with_warmup(optimizer, rising, steps)
    return schedule
