"""A way through `vmap` for calls that know nothing of it: what is mapped goes into the first dimension, as rows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def is_mapped(tensor: Tensor | None) -> bool:
    """Whether vmap is mapping over a dimension of the tensor."""
    return tensor is not None and torch._C._functorch.is_batchedtensor(tensor)  # noqa: SLF001 - there is no public word


def folded(call: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """The call's result, row by row, for tensors whose first dimension counts rows, whether they are mapped or not.

    Gradients flow through the call itself: it sees ordinary tensors.
    """
    if any(map(is_mapped, tensors)):
        return _Folded.apply(call, *tensors)  # type: ignore[no-untyped-call, no-any-return]
    return call(*tensors)


class _Folded(torch.autograd.Function):
    """One level of mapping."""

    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise AssertionError("only for what is mapped")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Callable[..., Tensor], *tensors: Tensor | None) -> Any:
        size: int = info.batch_size

        def fold(tensor: Tensor | None, dimension: int | None) -> Tensor | None:
            if tensor is None:
                return None
            there = tensor.expand(size, *tensor.shape) if dimension is None else tensor.movedim(dimension, 0)
            return there.flatten(0, 1)

        result = folded(call, *(fold(*pair) for pair in zip(tensors, in_dims[1:], strict=True)))
        return result.view(size, -1, *result.shape[1:]), 0
