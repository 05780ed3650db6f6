"""Run code that knows nothing of `vmap` under it: fold the mapped dimension into the first one, as more rows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def is_mapped(tensor: Tensor | None) -> bool:
    """Return whether vmap is mapping over a dimension of the tensor."""
    return tensor is not None and torch._C._functorch.is_batchedtensor(tensor)  # noqa: SLF001 - torch has no public function


def folded(call: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """Run a function that works row by row, whether or not vmap maps over its arguments.

    Gradients flow through the function itself: it sees ordinary tensors.

    Args:
        call: Takes the tensors in this order. It must treat their rows independently.
        *tensors: Their first dimension counts rows. Any of them may be mapped, and any may be None.

    Returns:
        The result of the call. It is mapped if one of the tensors is.
    """
    if any(map(is_mapped, tensors)):
        return _Folded.apply(call, *tensors)  # type: ignore[no-untyped-call, no-any-return]
    return call(*tensors)


class _Folded(torch.autograd.Function):
    """Fold one level of vmap. Nested levels are folded one after another."""

    @staticmethod
    def forward(*_: Any) -> Tensor:
        raise AssertionError("only for tensors that vmap maps over")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Save nothing: autograd differentiates the call itself."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Callable[..., Tensor], *tensors: Tensor | None) -> Any:
        size: int = info.batch_size

        def fold(tensor: Tensor | None, dimension: int | None) -> Tensor | None:
            if tensor is None:
                return None
            leading = tensor.expand(size, *tensor.shape) if dimension is None else tensor.movedim(dimension, 0)
            return leading.flatten(0, 1)

        result = folded(call, *(fold(*pair) for pair in zip(tensors, in_dims[1:], strict=True)))
        return result.view(size, -1, *result.shape[1:]), 0
