"""The optimizer and its schedule."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from bench.models.parts import trained


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
) -> Optimizer:
    """An optimizer over what is trained, by name. head: which of the names are the task's head.

    build: takes groups of parameters and `lr=`. lr_ratio: multiplies the rate of parameters whose name holds the key;
    the key `head` means the task's head. The first group's rate is the plain one, where any parameter has that.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        if name in head:
            ratio = lr_ratio.get("head", 1.0)
        else:
            ratio = next((ratio for part, ratio in lr_ratio.items() if part != "head" and part in name), 1.0)
        groups.setdefault((ratio, decays(name, parameter)), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": members, "lr": lr * ratio, "weight_decay": weight_decay * decay}
        for (ratio, decay), members in sorted(groups.items(), key=lambda group: group[0][0] != 1.0)
    ]
    return build(settings, lr=lr)


def make_schedule(optimizer: Optimizer, steps: int, warmup: float) -> LRScheduler:
    """Linear warm-up over a share of the steps, then linear to zero."""
    schedule: LRScheduler = get_linear_schedule_with_warmup(optimizer, round(warmup * steps), steps)
    return schedule
