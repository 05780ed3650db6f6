"""A base in bf16 and the implementation of attention: settings of the frozen model."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import UNTRAINED
from small_trials import BF16
from test_every_method import WARNINGS
from test_quant import LEAVES
from torch import nn

from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.models.speed.speedups import Fast, quicken
from bench.records import record as records
from bench.runner.build import build, load_data, recipe_of
from bench.train.batches import collate
from bench.train.evaluate import forward
from bench.train.optim import make_optimizer
from bench.train.step import Stepper

Run = Callable[..., subprocess.CompletedProcess[str]]
CPU = torch.device("cpu")
FITTING = sorted(name for name, leaf in LEAVES.items() if leaf.get("quant") and name not in UNTRAINED | {"loftq"})


@pytest.fixture
def tiny(tiny: list[str]) -> list[str]:
    """Overrides without a precision, because a base in bf16 decides its own arithmetic."""
    return [word for word in tiny if not word.startswith("precision=")]


def compose_cell(tiny: list[str], *words: str) -> Cell:
    (composed,) = cells([*tiny, *words], multirun=False)
    return composed


def built(cell: Cell) -> nn.Module:
    return build(cell, seed=0, compute=BF16)


def test_frozen_matrices_are_stored_in_bf16_and_trained_parameters_in_fp32(tiny: list[str]) -> None:
    named = dict(built(compose_cell(tiny, "method=lora", "quant=bf16")).named_parameters())
    for name, parameter in named.items():
        matrix = (
            parameter.ndim == 2 and not parameter.requires_grad and "classifier" not in name and "pooler" not in name
        )
        assert parameter.dtype is (torch.bfloat16 if matrix else torch.float32), name
    assert sum(parameter.dtype is torch.bfloat16 for parameter in named.values()) > 10


@pytest.mark.filterwarnings(*[f"ignore:{warning}" for name in FITTING for warning in WARNINGS.get(name, [])])
@pytest.mark.parametrize("name", FITTING)
def test_every_method_that_keeps_the_base_frozen_trains_on_a_bf16_base(name: str, tiny: list[str]) -> None:
    rank = {"adalora": "rank=8", "qlora": "rank=4"}.get(name, "rank=4")
    cell = compose_cell(tiny, f"method={name}", rank, "quant=bf16", "quant.double=false")
    model, recipe, data = built(cell), recipe_of(cell), load_data(cell)
    trained = {key: part.clone() for key, part in model.named_parameters() if part.requires_grad}
    assert {part.dtype for part in trained.values()} == {torch.float32}
    optimizer = make_optimizer(model, recipe.build, lr=1e-2, weight_decay=0.0, lr_ratio=recipe.lr_ratio)
    step = Stepper(model.train(), optimizer, recipe.hooks, clip=1.0, compute=BF16)
    recipe.hooks.begin(model, 2)
    batch = collate(data.train, torch.arange(8))
    for _ in range(2):
        assert torch.isfinite(step(batch).loss)
    moved = [key for key, part in model.named_parameters() if key in trained and not torch.equal(part, trained[key])]
    assert [key for key in moved if "classifier" not in key and "pooler" not in key]


def test_a_bf16_base_answers_as_the_full_precision_base_up_to_rounding(tiny: list[str]) -> None:
    cell = compose_cell(tiny, "method=lora", "precision=bf16")
    batch = collate(load_data(cell).report, torch.arange(8))
    logits = []
    for words, way in (([], "torch"), (["quant=bf16"], "torch"), (["quant=bf16"], "onednn")):
        model = quicken(built(compose_cell(tiny, "method=lora", "precision=bf16", *words)).eval(), Fast(way, "all"))
        with torch.no_grad(), BF16.autocast():
            logits.append(forward(model, batch))
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=0.02)
    torch.testing.assert_close(logits[2], logits[1], rtol=0, atol=0.02)


def test_trials_on_a_bf16_base_are_packed_and_recorded_as_such(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    # In a tiny model, the rounding of bf16 outweighs everything else.
    real = [word for word in tiny if not word.startswith("model")]
    done = inline(*real, "method=lora", "quant=bf16", "seeds=[0,1]", "pack=2")
    assert done.returncode == 0, done.stdout + done.stderr
    for record in records.read_all(tmp_path / "results", pytest.fail):
        assert (record.cell["base"], record.provenance["dtype"]) == ("bf16", "bf16")
        if record.kind == "trial":
            assert record.cost is not None
            assert record.cost["pack"] == 2, record.cost["pack_why"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quant=bf16", "precision=fp32"], "precision=fp32 cannot compute on it; use precision=bf16"),
        (
            ["quant=bf16", "method=full"],
            "method 'full' does not work on a base quantised to bf16; it works on quant=none",
        ),
        (["quant=bf16", "save=merged"], "save=merged: a base quantised to bf16 cannot be saved merged"),
        (["fast.attention=flash_attention_2"], "needs a CUDA device and the package flash-attn; use sdpa or own"),
        (["fast.attention=flash"], "fast.attention"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(words: list[str], message: str, inline: Run, tiny: list[str]) -> None:
    done = inline(*tiny, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_attention_implementation_gives_the_same_losses(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    losses = {}
    for way in ("own", "eager", "sdpa"):
        words = ["method=lora", "precision=fp32", "seeds=[0,1]", "pack=2", f"fast.attention={way}", "force=true"]
        done = inline(*tiny, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        trials = [record for record in records.read_all(tmp_path / "results", pytest.fail) if record.kind == "trial"]
        losses[way] = [loss for record in trials for loss in (record.curve or {})["loss"]]
        for record in trials:
            assert record.provenance["attention"] == way
            assert record.cost is not None
            assert (record.cost["pack"], record.cost["pack_why"]) == (
                (2, None) if way == "own" else (1, f"fast.attention={way} cannot run packed trials")
            )
    assert losses["eager"] == pytest.approx(losses["own"], abs=1e-5)
    assert losses["sdpa"] == pytest.approx(losses["own"], abs=1e-5)
