"""Soft prompts that start from a text, by the frozen model's own embeddings, keys and values of its words."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.methods import peft_library as peft


def prompt(model: nn.Module, *, config: Callable[..., Any], text: str) -> nn.Module:
    """Wrap the model for prompt tuning; the virtual tokens start as a text's words, repeated or cut to their number."""
    wrapped: Any = peft.attach(model, config=config)
    if not next(model.parameters()).is_meta:
        rows = wrapped.prompt_encoder[wrapped.active_adapter].embedding.weight
        embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
        with torch.no_grad():
            rows.copy_(embeddings.weight[_words(model, text, len(rows))])
    return wrapped  # type: ignore[no-any-return]


def prefix(model: nn.Module, *, config: Callable[..., Any], text: str) -> nn.Module:
    """Wrap the model for prefix tuning; the prefix starts as what every layer computes for a text's words."""
    from peft import initialize_kv_prefix_from_past_key_values
    from transformers import DynamicCache

    wrapped: Any = peft.attach(model, config=config)
    if not next(model.parameters()).is_meta:
        words, cache = _words(model, text, wrapped.active_peft_config.num_virtual_tokens), DynamicCache()
        backbone: Any = model.base_model
        with torch.no_grad():
            backbone.eval()(input_ids=words[None], past_key_values=cache, use_cache=True)
            initialize_kv_prefix_from_past_key_values(wrapped, past_key_values=cache)
    return wrapped  # type: ignore[no-any-return]


def _words(model: nn.Module, text: str, count: int) -> Tensor:
    """That many token ids, without special tokens: [count], on the model's device."""
    from transformers import AutoTokenizer

    base: Any = model.config
    tokenizer = AutoTokenizer.from_pretrained(base.name_or_path, trust_remote_code=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor((ids * -(-count // len(ids)))[:count], device=next(model.parameters()).device)
