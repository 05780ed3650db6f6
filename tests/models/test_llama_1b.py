"""Llama-3.2-1B in its true shape, without its weights: every method's parameters by formula, on the meta device."""

from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import torch
from test_every_method import METHODS, SIZES, WARNINGS, Sizes
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit
from bench.config.compose import cells
from bench.measure.parameters import count
from bench.runner.build import method_of
from bench.runner.worker import try_out

TOTAL = 1_235_814_400
WITHOUT = {"bitfit", "boft", "head", "loftq", "shira"}  # they do not fit, or need real weights to start
SETTINGS = {
    "adalora": ["rank=8"],
    "p_tuning": ["method.template=null"],
    "p_tuning_mlp": ["method.template=null"],
    "c3a": ["method.attach.config.block_size=32"],
}
FILTERS = [f"ignore:{warning}" for name in METHODS for warning in WARNINGS.get(name, [])]


@cache
def compose_cell(method: str, *words: str) -> Cell:
    given = ["model=llama-3.2-1b", "model.weights=random", "task=quiz", "track=off", f"method={method}", "rank=4"]
    (composed,) = cells([*given, *SETTINGS.get(method, []), *words], multirun=False)
    return composed


def whole(cell: Cell) -> nn.Module:
    architecture = {key: value for key, value in cell.source.config.items() if key != "model_type"}
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **architecture))
    return model


def test_llama_1b_has_the_published_size() -> None:
    assert count(whole(compose_cell("full"))).total == TOTAL


@pytest.mark.filterwarnings(*FILTERS)
@pytest.mark.parametrize("method", [name for name in METHODS if name not in WITHOUT])
def test_every_method_trains_as_many_parameters_as_its_formula_says(method: str) -> None:
    cell = compose_cell(method)
    shape = Sizes("llama", cell.rank or 4, width=2048, inner=8192, kv=512, layers=16, vocab=128_256, norm=2048)
    attach: Any = method_of(cell)
    model = whole(cell)
    with suppress(RuntimeError), torch.device("meta"):  # an initialisation that needs real weights
        model = attach(model)
    trained = count(model)
    assert trained.trainable == SIZES[method](shape)
    assert trained.head == 0


@pytest.mark.parametrize(
    ("method", "rank", "expected"), [("lora", 1, 106_496), ("lora", 16, 16 * 106_496), ("ia3", 4, 147_456)]
)
def test_known_counts_of_trained_parameters_are_reproduced(method: str, rank: int, expected: int) -> None:
    cell = compose_cell(method, f"rank={rank}")
    with torch.device("meta"):
        assert count(method_of(cell)(whole(cell))).trainable == expected


def test_methods_that_need_a_head_or_biases_are_refused() -> None:
    with pytest.raises(Misfit, match="has none"):
        compose_cell("head")
    with pytest.raises(Misfit):
        try_out(compose_cell("bitfit"))
