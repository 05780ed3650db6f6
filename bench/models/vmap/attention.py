"""Attention that trials can share: the trial axis is folded into the batch, and no mask is looked at on the way.

Registered with transformers under NAME, so that every architecture that asks for its attention by name gets it.
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
    """causal: no position looks ahead. scale: of the products, before the softmax. dropout: of what comes after it."""

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
    """Softmax attention. query: [batch, heads, length, width]; attention_mask: bool, true where it may look, or None.

    Gives [batch, length, heads, width], as transformers wants it. On a CPU plain products are as fast as the fused
    kernel at the lengths of sentences; elsewhere the fused kernel runs.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", False))
    causal = is_causal and attention_mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # The fused kernel's own dropout would draw from no trial's stream.
    way = _plain if query.device.type == "cpu" or dropout else _fused
    attended = way(query, key, value, attention_mask, How(causal, scale, dropout))
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
    """A bool mask [batch, 1, queries, keys]; None where nothing is padded, which the caller says by giving none."""
    skip = attention_mask is None
    settings |= {
        name: settings.get(name, default) and skip
        for name, default in (("allow_is_causal_skip", True), ("allow_is_bidirectional_skip", False))
    }
    mask: Tensor | None = sdpa_mask(attention_mask=attention_mask, **settings)
    return mask


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _mask)
