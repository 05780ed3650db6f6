"""Every method of the PEFT library: its yaml carries the configuration, and no code is needed."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import nn

from bench.methods.head import head_names
from bench.models.targets import Target


def attach(model: nn.Module, *, config: Callable[..., Any], target: Target | None = None) -> nn.Module:
    """Wrap the model in a PEFT model; the head is trained too.

    config: a PEFT configuration that lacks only what depends on the model. target: for methods that adapt linear
    layers. TypeError: a setting that the configuration does not know.
    """
    from peft import get_peft_model

    placement: dict[str, Any] = {}
    if target is not None:
        placement["target_modules"] = target.pattern
        if "feedforward_modules" in {field.name for field in fields(config.func)}:  # type: ignore[attr-defined]
            placement["feedforward_modules"] = target.down_pattern or []
    settings = config(task_type="SEQ_CLS", modules_to_save=head_names(model), **placement)
    wrapped: nn.Module = get_peft_model(model, settings)
    return wrapped
