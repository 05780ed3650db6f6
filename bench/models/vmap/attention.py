"""Attention that trials can share: it folds the trial axis into the batch and never inspects the mask's values.

It is registered with transformers under NAME. Every architecture that looks up its attention by name can use it.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

from bench.models.vmap.dropout import drop
from bench.models.vmap.folding import folded

NAME = "peftgrid"


class How(NamedTuple):
    """Settings of one attention call.

    Attributes:
        causal: Whether a position attends only to itself and earlier positions.
        scale: Factor of the query-key products, before the softmax.
        dropout: Probability of dropping an attention weight, after the softmax.
    """

    causal: bool
    scale: float
    dropout: float


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute softmax attention, with the signature that transformers calls.

    On a CPU, plain matrix products are as fast as the fused kernel at sentence lengths. The fused kernel runs on other
    devices.

    Args:
        module: The attention layer. Its `num_key_value_groups` and `is_causal` are read if it has them.
        query: [batch, heads, length, width].
        key: [batch, key heads, key length, width].
        value: [batch, key heads, key length, width].
        attention_mask: Bool, true where a query may attend. None if nothing is masked.
        dropout: Probability of dropping an attention weight.
        scaling: Factor of the query-key products. None for 1 / sqrt(width).
        is_causal: Whether to mask later positions. None to use the module's own setting.

    Returns:
        The result, [batch, length, heads, width], and None in place of the attention weights.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", False))
    causal = is_causal and attention_mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # The fused kernel's own dropout would not draw from the trial's stream.
    kernel = _plain if query.device.type == "cpu" or dropout else _fused
    attended = kernel(query, key, value, attention_mask, How(causal, scale, dropout))
    return attended.transpose(1, 2).contiguous(), None


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, how: How) -> Tensor:
    scores = torch.matmul(query * how.scale, key.transpose(-1, -2))
    if how.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.matmul(drop(scores.softmax(-1), how.dropout), value)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, how: How) -> Tensor:
    kernel = nn.functional.scaled_dot_product_attention
    return folded(partial(kernel, is_causal=how.causal, scale=how.scale), query, key, value, mask)


def _mask(*, attention_mask: Tensor | None = None, **settings: Any) -> Tensor | None:
    """Return a bool mask [batch, 1, queries, keys].

    Returns None if nothing is padded. The caller says so by passing no attention mask.
    """
    skip = attention_mask is None
    settings |= {
        name: settings.get(name, default) and skip
        for name, default in (("allow_is_causal_skip", True), ("allow_is_bidirectional_skip", False))
    }
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, **settings)
    return mask


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _mask)
