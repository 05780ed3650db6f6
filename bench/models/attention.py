"""Attention that trials can share: the trial axis is folded into the batch, and no mask is looked at on the way.

Registered with transformers under NAME, so that every architecture that asks for its attention by name gets it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

from bench.models.streams import drop, is_mapped

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
    kernel at the lengths of sentences; elsewhere the fused kernel runs, which has not been run on a GPU yet.
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
    if any(map(is_mapped, (query, key, value, mask))):
        return _Folded.apply(query, key, value, mask, how)  # type: ignore[no-untyped-call, no-any-return]
    return nn.functional.scaled_dot_product_attention(query, key, value, mask, is_causal=how.causal, scale=how.scale)


class _Folded(torch.autograd.Function):
    """The rule for vmap that the fused kernel lacks: fold, call, unfold. Gradients flow through the folded call."""

    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise AssertionError("only for what is mapped")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        folded, unfold = _fold(inputs[:4], in_dims, info.batch_size)
        return unfold(_fused(folded[0], folded[1], folded[2], folded[3], inputs[4])), 0


def _fold(
    tensors: tuple[Any, ...], in_dims: tuple[int | None, ...], size: int
) -> tuple[list[Any], Callable[[Tensor], Tensor]]:
    """Put the mapped dimension into the batch, the first of the others; and the way back."""

    def folded(tensor: Tensor | None, dimension: int | None) -> Tensor | None:
        if tensor is None:
            return None
        there = tensor.expand(size, *tensor.shape) if dimension is None else tensor.movedim(dimension, 0)
        return there.flatten(0, 1)

    def unfold(tensor: Tensor) -> Tensor:
        return tensor.view(size, -1, *tensor.shape[1:])

    return [folded(tensor, dimension) for tensor, dimension in zip(tensors, in_dims, strict=False)], unfold


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
