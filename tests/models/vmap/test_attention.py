"""The fused kernel, which runs on a GPU, agrees with matrix products, with and without vmap over trials."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from bench.models.vmap.attention import How, _fused, _plain

HOW = How(causal=False, scale=0.5, dropout=0.0)
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()[:, None, None].expand(2, 1, 4, 4)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("mapped", [0, 1, 2])
@pytest.mark.filterwarnings("error:There is a performance drop")
def test_both_kernels_agree(mapped: int, mask: Tensor | None) -> None:
    torch.manual_seed(0)
    trials = (3, 2)[:mapped]
    query, value = (torch.randn(*trials, 2, 2, 4, 8, requires_grad=True) for _ in range(2))
    shared = torch.randn(2, 2, 4, 8)  # the same for all trials

    def run(kernel: object) -> tuple[Tensor, tuple[Tensor, ...]]:
        def call(query: Tensor, value: Tensor) -> Tensor:
            return kernel(query, shared, value, mask, HOW)  # type: ignore[operator]

        for _ in range(mapped):
            call = vmap(call)
        attended = call(query, value)
        return attended, torch.autograd.grad(attended.sin().sum(), (query, value))

    (fused, gradients), (unfused, expected) = run(_fused), run(_plain)
    torch.testing.assert_close(fused, unfused, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6)
