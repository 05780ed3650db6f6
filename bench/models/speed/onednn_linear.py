"""Products with frozen matrices through oneDNN, which lays the weights out for the CPU once instead of at each product.

The arithmetic is that of `nn.Linear`: fp32 products stay fp32 (they differ by the order of summation, by less than 2e-6
of the largest entry), and under bf16 autocast weights and inputs are rounded to bf16 as autocast does.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bench.models.class_swap import swap

ROWS = 512  # what the layout is tuned for


class FrozenLinear(nn.Linear):
    """An nn.Linear whose weight and bias never change, with both laid out for oneDNN."""

    layouts: dict[torch.dtype, tuple[Tensor, Tensor, Tensor | None]]
    source: tuple[Tensor]  # in a tuple, or it would be a parameter a second time

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if self.weight is not self.source[0] or self.weight.requires_grad:  # another trial's weight stands in for it
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if dtype not in (torch.float32, torch.bfloat16) or self.weight.dtype not in (torch.float32, dtype):
            return super().forward(input)
        if dtype not in self.layouts:
            self.layouts[dtype] = laid_out(self, dtype)
        # Two dimensions inside: the product of more is a view, and PEFT adds to it in place.
        flat = input.to(dtype).reshape(-1, self.in_features)
        product: Tensor = _Product.apply(flat, *self.layouts[dtype])  # type: ignore[no-untyped-call]
        return product.view(*input.shape[:-1], self.out_features)


def lay_out(model: nn.Module) -> nn.Module:
    """Let every frozen linear layer of the model run through oneDNN. Its weights stay where they are."""
    for module in model.modules():
        frozen = type(module) is nn.Linear and not any(part.requires_grad for part in module.parameters())
        if frozen and not module._forward_hooks:  # noqa: SLF001 - a hook may exchange the weight
            swap(module, FrozenLinear)
            module.layouts, module.source = {}, (module.weight,)  # type: ignore[assignment]
    return model


def laid_out(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """The weight for the way forward, the same for the way back, and the bias."""
    with torch.no_grad():
        weight = layer.weight.to(dtype)
        forth, back = (torch.ops.mkldnn._reorder_linear_weight(one.contiguous(), ROWS) for one in (weight, weight.T))  # noqa: SLF001
        return forth, back, None if layer.bias is None else layer.bias.to(dtype)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001
    return product


class _Product(torch.autograd.Function):
    """x @ weight.T + bias. The weight and the bias get no gradient."""

    @staticmethod
    def forward(x: Tensor, forth: Tensor, back: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG004
        return multiply(x, forth, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.forth, ctx.back = inputs[1:3]  # not saved for backward: they are opaque to autograd

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        found = _Product.apply(grad, ctx.back, ctx.forth, None)  # type: ignore[no-untyped-call]
        return found, None, None, None

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004
        in_dims: tuple[int | None, ...],
        x: Tensor,
        forth: Tensor,
        back: Tensor,
        bias: Tensor | None,
    ) -> Any:
        where = in_dims[0] or 0
        return _Product.apply(x.movedim(where, 0), forth, back, bias), 0  # type: ignore[no-untyped-call]
