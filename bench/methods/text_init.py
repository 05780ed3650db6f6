"""Start soft prompts from a text, with the frozen model's own embeddings, keys and values of its tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.methods import peft_library as peft


def prompt(model: nn.Module, *, config: Callable[..., Any], text: str) -> nn.Module:
    """Wrap the model for prompt tuning. The virtual tokens start as the embeddings of a text.

    Args:
        model: The model to wrap. On the meta device nothing is initialised.
        config: A PEFT configuration that lacks only what depends on the model.
        text: Its tokens are repeated or cut to the number of virtual tokens.

    Returns:
        A PEFT model.
    """
    wrapped: Any = peft.attach(model, config=config)
    if not next(model.parameters()).is_meta:
        rows = wrapped.prompt_encoder[wrapped.active_adapter].embedding.weight
        embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
        with torch.no_grad():
            rows.copy_(embeddings.weight[_token_ids(model, text, len(rows))])
    return wrapped  # type: ignore[no-any-return]


def prefix(model: nn.Module, *, config: Callable[..., Any], text: str) -> nn.Module:
    """Wrap the model for prefix tuning. The prefix starts as each layer's keys and values for a text.

    Args:
        model: The model to wrap. On the meta device nothing is initialised.
        config: A PEFT configuration that lacks only what depends on the model.
        text: Its tokens are repeated or cut to the length of the prefix.

    Returns:
        A PEFT model.
    """
    from peft import initialize_kv_prefix_from_past_key_values
    from transformers import DynamicCache

    wrapped: Any = peft.attach(model, config=config)
    if not next(model.parameters()).is_meta:
        token_ids, cache = _token_ids(model, text, wrapped.active_peft_config.num_virtual_tokens), DynamicCache()
        backbone: Any = model.base_model
        with torch.no_grad():
            backbone.eval()(input_ids=token_ids[None], past_key_values=cache, use_cache=True)
            initialize_kv_prefix_from_past_key_values(wrapped, past_key_values=cache)
    return wrapped  # type: ignore[no-any-return]


def _token_ids(model: nn.Module, text: str, count: int) -> Tensor:
    """Tokenize a text without special tokens, repeated or cut to `count` ids: [count], on the model's device."""
    from transformers import AutoTokenizer

    config: Any = model.config
    tokenizer = AutoTokenizer.from_pretrained(config.name_or_path, trust_remote_code=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor((ids * -(-count // len(ids)))[:count], device=next(model.parameters()).device)
