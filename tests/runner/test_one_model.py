"""A worker has one model in memory: the model of an earlier stage is freed before the next is built."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from bench.config.compose import cells
from bench.models.load import load_model
from bench.runner import build, worker
from bench.runner.job import Job


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable Python's garbage collector, which otherwise runs at any time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("method", ["lora", "adapter", "diff_pruning"])
@pytest.mark.parametrize("pack", ["1", "auto"])
def test_no_model_outlives_its_use(method: str, pack: str, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*tiny, f"method={method}", "rank=4", "lrs=[1e-3,1e-4]", "seeds=[0]", f"pack={pack}", "device=cpu"]
    (cell,) = cells(words, multirun=False)
    made: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []

    def watched(*args: Any, **settings: Any) -> nn.Module:
        alive.append(sum(model() is not None for model in made))
        model = load_model(*args, **settings)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(build, "load_model", watched)
    worker.run_cell(Job(cell, cell.trials, probe=True), lambda _: None)
    assert len(made) >= 2
    assert set(alive) == {0}
