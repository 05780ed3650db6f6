"""Attach any method of the PEFT library. The configuration is in the method's yaml, so a new method needs no code."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from bench.models.structure import blocks, head_names, is_head
from bench.models.targets import Target

MUTATING = ("pissa", "olora")  # initialisations that subtract the adapter's initial value from the base weights


def attach(
    model: nn.Module, *, config: Callable[..., Any], target: Target | None = None, freeze: Sequence[str] = ()
) -> nn.Module:
    """Wrap the model in a PEFT model. The head is trained too.

    Args:
        model: The model to wrap.
        config: A PEFT configuration that lacks only what depends on the model.
        target: The linear layers to adapt, for methods that adapt some.
        freeze: Parts of parameter names. Matching parameters that the method adds keep their initial values (LoRA-FA's
            A).

    Returns:
        The PEFT model.

    Raises:
        TypeError: The configuration does not know a setting.
    """
    from peft import get_peft_model

    settings = config(task_type=_task_type(model), **_placement(model, config, target))
    wrapped: Any = get_peft_model(model, settings)
    for name, parameter in wrapped.named_parameters():
        if is_head(name, model) and ".original_module." not in name:
            parameter.requires_grad = True  # LLaMA-Adapter's class leaves it frozen
        if not set(freeze).isdisjoint(name.split(".")):
            parameter.requires_grad = False
    # A quantised base cannot be restored exactly. There PEFT repeats the initialisation when the adapter is loaded.
    mutates = str(getattr(settings, "init_lora_weights", "")).startswith(MUTATING)
    if mutates and not getattr(model, "is_quantized", False):
        wrapped.start = _adapter_state(wrapped)  # subtracted when the adapter is saved
    return wrapped  # type: ignore[no-any-return]


def _task_type(model: Any) -> str:
    """Return PEFT's task type, which decides how virtual tokens are prepended. PEFT has none for a masked model."""
    types = {"ForSequenceClassification": "SEQ_CLS", "ForCausalLM": "CAUSAL_LM", "ForMaskedLM": "FEATURE_EXTRACTION"}
    return next(task_type for ending, task_type in types.items() if type(model).__name__.endswith(ending))


def _placement(model: nn.Module, config: Any, target: Target | None) -> dict[str, Any]:
    """Return the settings that depend on the model: the adapted layers, the head and the number of blocks."""
    known = {field.name for field in fields(config.func)}
    settings: dict[str, Any] = {}
    if target is not None:
        settings["target_modules"] = target.pattern
        if "feedforward_modules" in known:
            settings["feedforward_modules"] = target.down_pattern or []
    if "modules_to_save" in known:
        settings["modules_to_save"] = head_names(model)
    if "adapter_layers" in known and "adapter_layers" not in config.keywords:
        settings["adapter_layers"] = len(blocks(model))
    return settings


def _adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the adapter's tensors by name."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().clone() for name, tensor in state.items()}
