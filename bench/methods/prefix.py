"""Prefix tuning that starts from a text: the keys and values that the frozen model itself computes for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.methods import peft


def attach(model: nn.Module, *, config: Callable[..., Any], text: str) -> nn.Module:
    """Wrap the model for prefix tuning and fill the prefix from a text, repeated or cut to its length."""
    from peft import initialize_kv_prefix_from_past_key_values
    from transformers import AutoTokenizer, DynamicCache

    wrapped: Any = peft.attach(model, config=config)
    if next(model.parameters()).is_meta:
        return wrapped  # type: ignore[no-any-return]
    base: Any = model.config
    base_device = next(model.parameters()).device
    tokenizer = AutoTokenizer.from_pretrained(base.name_or_path, trust_remote_code=False)
    words = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = wrapped.active_peft_config.num_virtual_tokens
    repeated = (words * -(-tokens // len(words)))[:tokens]
    cache = DynamicCache()
    with torch.no_grad():
        backbone: Any = model.base_model
        backbone.eval()(input_ids=torch.tensor([repeated], device=base_device), past_key_values=cache, use_cache=True)
        initialize_kv_prefix_from_past_key_values(wrapped, past_key_values=cache)
    return wrapped  # type: ignore[no-any-return]
