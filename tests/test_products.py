"""What a device multiplies fast is measured, and decides the arithmetic where it is left open."""

import pytest
import torch

from bench.measure import products
from bench.measure.products import product_speeds
from bench.train.precision import pick_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_every_way_that_the_cpu_has_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    speeds = product_speeds(CPU)
    assert set(speeds) == {"torch fp32", "onednn fp32", "torch bf16", "onednn bf16"}
    assert all(1e8 < speed < 1e14 for speed in speeds.values())


def test_bf16_is_not_tried_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert set(product_speeds(CPU)) == {"torch fp32", "onednn fp32"}


def test_an_accelerator_is_not_asked() -> None:
    assert product_speeds(CUDA) == {}


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({"torch fp32": 1.0, "onednn fp32": 2.0, "torch bf16": 1.5, "onednn bf16": 3.0}, torch.bfloat16),
        ({"torch fp32": 1.0, "onednn fp32": 2.0, "torch bf16": 2.1, "onednn bf16": 2.2}, torch.float32),
        ({"torch fp32": 1.0, "onednn fp32": 1.0, "torch bf16": 0.6, "onednn bf16": 0.6}, torch.float32),
        ({"torch fp32": 1.0}, torch.float32),
    ],
)
def test_bf16_is_taken_where_it_is_clearly_faster(speeds: dict[str, float], chosen: torch.dtype) -> None:
    assert pick_dtype("auto", CPU, speeds) is chosen


@pytest.mark.parametrize(("wanted", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_word_is_obeyed(wanted: str, dtype: torch.dtype) -> None:
    assert pick_dtype(wanted, CPU, {"torch fp32": 1.0, "torch bf16": 9.0 if dtype is torch.float32 else 0.1}) is dtype
