"""Every method of the PEFT library: its yaml carries the configuration, and no code is needed."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from bench.models.structure import blocks, head_names, is_head
from bench.models.targets import Target

MUTATING = ("pissa", "olora")  # initialisations that take the adapter's start out of the base weights


def attach(
    model: nn.Module, *, config: Callable[..., Any], target: Target | None = None, freeze: Sequence[str] = ()
) -> nn.Module:
    """Wrap the model in a PEFT model; the head is trained too.

    config: a PEFT configuration that lacks only what depends on the model. target: for methods that adapt linear
    layers. freeze: parts of names of what the method adds and leaves as it was drawn (LoRA-FA's A).
    TypeError: a setting that the configuration does not know.
    """
    from peft import get_peft_model

    settings = config(task_type=_task_type(model), **_placement(model, config, target))
    wrapped: Any = get_peft_model(model, settings)
    for name, parameter in wrapped.named_parameters():
        if is_head(name, model) and ".original_module." not in name:
            parameter.requires_grad = True  # LLaMA-Adapter's class leaves it frozen
        if not set(freeze).isdisjoint(name.split(".")):
            parameter.requires_grad = False
    # A quantised base cannot be given back what was taken: there PEFT takes it anew when the adapter is loaded.
    mutates = str(getattr(settings, "init_lora_weights", "")).startswith(MUTATING)
    if mutates and not getattr(model, "is_quantized", False):
        wrapped.start = _start(wrapped)  # saving subtracts it again
    return wrapped  # type: ignore[no-any-return]


def _task_type(model: Any) -> str:
    """What decides how PEFT puts virtual tokens before the data's; it has no word for a masked language model."""
    kinds = {"ForSequenceClassification": "SEQ_CLS", "ForCausalLM": "CAUSAL_LM", "ForMaskedLM": "FEATURE_EXTRACTION"}
    return next(word for ending, word in kinds.items() if type(model).__name__.endswith(ending))


def _placement(model: nn.Module, config: Any, target: Target | None) -> dict[str, Any]:
    """Settings that depend on the model: the adapted layers, the head, how many blocks there are."""
    known = {field.name for field in fields(config.func)}
    found: dict[str, Any] = {}
    if target is not None:
        found["target_modules"] = target.pattern
        if "feedforward_modules" in known:
            found["feedforward_modules"] = target.down_pattern or []
    if "modules_to_save" in known:
        found["modules_to_save"] = head_names(model)
    if "adapter_layers" in known and "adapter_layers" not in config.keywords:
        found["adapter_layers"] = len(blocks(model))
    return found


def _start(model: nn.Module) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().clone() for name, tensor in state.items()}
