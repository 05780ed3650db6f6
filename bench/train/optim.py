"""Build the optimizer and its learning-rate schedule."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_linear_schedule_with_warmup

from bench.models.structure import trained


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay applies to a parameter.

    It applies to matrices. It does not apply to biases and layer norms, as in the training of BERT, nor to the factors
    of IA3, which start at 1.
    """
    return parameter.ndim > 1 and ".ia3_l." not in name


def make_optimizer(model: nn.Module, build: Callable[..., Optimizer], **settings: Any) -> Optimizer:
    """Build an optimizer over the trained parameters of a model.

    Args:
        model: The model.
        build: As for `optimizer_over`.
        **settings: Further arguments of `optimizer_over`.
    """
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
    """Build an optimizer over some parameters.

    Args:
        parameters: The trained parameters, by name.
        head: The names that belong to the task's head.
        build: Builds an optimizer from groups of parameters and `lr=`.
        lr: The trial's learning rate.
        weight_decay: The weight decay of matrices.
        lr_ratio: Factors on the learning rate. A factor applies to the parameters below the head whose name contains
            its key.
        head_lr: The learning rate of the head. None for the trial's rate.

    Returns:
        The optimizer. The first group has the trial's rate if any parameter has it. It has the rate of the head only if
        nothing else is trained.
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
    """Build a schedule that rises linearly during the warm-up and then falls linearly to zero.

    Args:
        optimizer: The optimizer.
        steps: Updates of the whole training.
        warmup: The warm-up as a share of the steps.
        warmup_steps: The warm-up in steps. It takes precedence over `warmup`.
    """
    rising_steps = round(warmup * steps) if warmup_steps is None else warmup_steps
    schedule: LRScheduler = get_linear_schedule_with_warmup(optimizer, rising_steps, steps)
    return schedule
