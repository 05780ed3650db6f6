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

from bench.models.streams import drop

NAME = "peftgrid"


class How(NamedTuple):
    """causal: no position looks ahead. scale: of the products, before the softmax."""

    causal: bool
    scale: float


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

    Gives [batch, length, heads, width], as transformers wants it. On a CPU plain products beat the fused kernel at the
    lengths of sentences; elsewhere the fused kernel runs. The latter has not been run on a GPU yet.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", False))
    causal = is_causal and attention_mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    how = How(causal, scale)
    if query.device.type == "cpu" or dropout:  # the fused kernel's own dropout draws from no trial's stream
        attended = _plain(query, key, value, attention_mask, how, dropout)
    else:
        attended = _applied(_Fused, query, key, value, attention_mask, how)
    return attended.transpose(1, 2).contiguous(), None


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, how: How, dropout: float) -> Tensor:
    scores = torch.matmul(query * how.scale, key.transpose(-1, -2))
    if how.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.matmul(drop(scores.softmax(-1), dropout), value)


def _applied(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    return function.apply(*inputs)  # type: ignore[no-untyped-call]


def _kernel(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, how: How) -> Tensor:
    return nn.functional.scaled_dot_product_attention(query, key, value, mask, is_causal=how.causal, scale=how.scale)


class _Fused(torch.autograd.Function):
    """The fused kernel with a rule for vmap: fold, call, unfold. Its way back runs the kernel forward once more."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, how: How) -> Tensor:
        return _kernel(q, k, v, mask, how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        q, k, v, mask, ctx.how = inputs
        ctx.save_for_backward(q, k, v, *([] if mask is None else [mask]))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        q, k, v, *mask = ctx.saved_tensors
        found = _applied(_FusedBackward, grad, q, k, v, mask[0] if mask else None, ctx.how)
        return (*found, None, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        folded, unfold = _fold(inputs[:4], in_dims, info.batch_size)
        return unfold(_applied(_Fused, *folded, *inputs[4:])), 0


class _FusedBackward(torch.autograd.Function):
    """Gradients of query, key and value."""

    @staticmethod
    def forward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, how: How) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            q, k, v = (tensor.detach().requires_grad_() for tensor in (q, k, v))
            return torch.autograd.grad(_kernel(q, k, v, mask, how), (q, k, v), grad)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: there is no gradient of the gradient."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError("the fused attention has no second derivative")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        folded, unfold = _fold(inputs[:5], in_dims, info.batch_size)
        found = _applied(_FusedBackward, *folded, *inputs[5:])
        return tuple(unfold(one) for one in found), (0, 0, 0)


def _fold(
    tensors: tuple[Tensor | None, ...], in_dims: tuple[int | None, ...], size: int
) -> tuple[list[Tensor | None], Callable[[Tensor], Tensor]]:
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
