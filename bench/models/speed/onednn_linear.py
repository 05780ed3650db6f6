"""Multiply by frozen matrices through oneDNN, which lays the weights out for the CPU once, not at every product.

The arithmetic is that of `nn.Linear`. Products in fp32 stay in fp32. They differ only in the order of summation, by
less than 2e-6 of the largest entry. Under bf16 autocast, weights and inputs are rounded to bf16 as autocast does.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bench.models.class_swap import swap

ROWS = 512  # rows of input that the layout is tuned for


class FrozenLinear(nn.Linear):
    """An nn.Linear whose weight and bias never change, with both laid out for oneDNN.

    Attributes:
        layouts: The result of `laid_out` by dtype, filled in when a dtype is first used.
        source: The weight that was laid out.
    """

    layouts: dict[torch.dtype, tuple[Tensor, Tensor, Tensor | None]]
    source: tuple[Tensor]  # in a tuple, so that it is not registered as a parameter again

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if self.weight is not self.source[0] or self.weight.requires_grad:  # replaced by another trial's weight
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if dtype not in (torch.float32, torch.bfloat16) or self.weight.dtype not in (torch.float32, dtype):
            return super().forward(input)
        if dtype not in self.layouts:
            self.layouts[dtype] = laid_out(self, dtype)
        # Multiply in two dimensions: a product with more would be a view, and PEFT adds to it in place.
        flat = input.to(dtype).reshape(-1, self.in_features)
        product: Tensor = _Product.apply(flat, *self.layouts[dtype])  # type: ignore[no-untyped-call]
        return product.view(*input.shape[:-1], self.out_features)


def lay_out(model: nn.Module) -> nn.Module:
    """Run every frozen linear layer of the model through oneDNN. Its weights stay in place. Return the same model."""
    for module in model.modules():
        frozen = type(module) is nn.Linear and not any(parameter.requires_grad for parameter in module.parameters())
        if frozen and not module._forward_hooks:  # noqa: SLF001 - a hook may replace the weight
            swap(module, FrozenLinear)
            module.layouts, module.source = {}, (module.weight,)  # type: ignore[assignment]
    return model


def laid_out(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """Lay out a linear layer's weight and bias for oneDNN.

    Args:
        layer: The layer, with a weight [out, in].
        dtype: The dtype of the copies: fp32 or bf16.

    Returns:
        The weight in oneDNN's layout for the forward pass, its transpose in that layout for the backward pass, and the
        bias, or None if there is none.
    """
    with torch.no_grad():
        weight = layer.weight.to(dtype)
        reorder = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001
        forward_weight, backward_weight = (reorder(matrix.contiguous(), ROWS) for matrix in (weight, weight.T))
        return forward_weight, backward_weight, None if layer.bias is None else layer.bias.to(dtype)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute a linear layer through oneDNN.

    Args:
        x: [rows, in].
        weight: In oneDNN's layout, from `laid_out`.
        bias: [out], or None.

    Returns:
        [rows, out].
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001
    return product


class _Product(torch.autograd.Function):
    """x @ weight.T + bias. The weight and the bias get no gradient."""

    @staticmethod
    def forward(x: Tensor, forward_weight: Tensor, backward_weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG004
        return multiply(x, forward_weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.forward_weight, ctx.backward_weight = inputs[
            1:3
        ]  # not save_for_backward: autograd cannot handle the layout

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        gradient = _Product.apply(grad, ctx.backward_weight, ctx.forward_weight, None)  # type: ignore[no-untyped-call]
        return gradient, None, None, None

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004
        in_dims: tuple[int | None, ...],
        x: Tensor,
        forward_weight: Tensor,
        backward_weight: Tensor,
        bias: Tensor | None,
    ) -> Any:
        leading = x.movedim(in_dims[0] or 0, 0)
        return _Product.apply(leading, forward_weight, backward_weight, bias), 0  # type: ignore[no-untyped-call]
