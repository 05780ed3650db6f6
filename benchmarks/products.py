"""Measures how fast this device multiplies matrices, in a few milliseconds.

A precision that a CPU has instructions for need not be fast: a Xeon with AVX512_BF16 ran bf16 products at 0.6 of the
speed of fp32. The harness itself decides by rule (bench/cells/arithmetic.py, bench/models/speed/speedups.py), because
under other load the result of such a measurement flips.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.models.speed.onednn_linear import laid_out, multiply

ROWS, WIDTH, ROUNDS = 256, 256, 3


def product_speeds(device: torch.device) -> dict[str, float]:
    """Return floating point operations per second by way and precision: `torch fp32`, `onednn fp32`, `torch bf16` ...

    Empty on an accelerator, where there is no choice. The ways run interleaved, and the best time of each counts.
    """
    if device.type != "cpu":
        return {}
    capabilities = torch.cpu.get_capabilities()
    dtypes = {"fp32": torch.float32}
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        dtypes["bf16"] = torch.bfloat16
    ways = {f"{way} {name}": call for name, dtype in dtypes.items() for way, call in _ways(dtype).items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + ROUNDS):
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    work = 2 * ROWS * WIDTH * 4 * WIDTH
    return {name: work / min(seconds[1:]) for name, seconds in taken.items()}


@torch.no_grad()
def _ways(dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    x, layer = torch.randn(ROWS, WIDTH, dtype=dtype), nn.Linear(WIDTH, 4 * WIDTH, dtype=dtype).requires_grad_(False)  # noqa: FBT003
    weight, bias = layer.weight, layer.bias
    ways: dict[str, Callable[[], Tensor]] = {"torch": lambda: nn.functional.linear(x, weight, bias)}
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        packed, _, laid = laid_out(layer, dtype)
        ways["onednn"] = lambda: multiply(x, packed, laid)
    return ways
