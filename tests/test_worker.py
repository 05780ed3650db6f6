"""What an exception means for the record, and what the check before a sweep lets through."""

import pytest
import torch

from bench import grid, worker
from bench.train.curve import Diverged


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Diverged("step 3: loss nan"), "diverged"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (MemoryError(), "oom"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            "oom",
        ),
        (RuntimeError("shapes do not match"), "failed"),
        (KeyError("classifier"), "failed"),
    ],
)
def test_every_exception_is_an_outcome_with_its_error(error: Exception, outcome: str) -> None:
    found, told = worker.describe(error)
    assert found == outcome
    assert told["type"] == type(error).__name__
    assert told["message"] == str(error)
    assert told["type"] in told["traceback"]


def test_running_out_of_memory_for_real_is_an_oom() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert worker.describe(caught.value)[0] == "oom"


def test_every_method_attaches_to_every_model_we_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no hub is: the architecture is enough."""
    answers: list[str | None] = []
    cells = grid.cells(
        ["method=glob(*)", "rank=4", "model=minilm,bert-base", "model.weights=random", "track=off"], multirun=True
    )
    assert len(cells) == 14
    monkeypatch.setattr(worker, "load_task", lambda _: None)

    class Pipe:
        send = staticmethod(answers.append)

    worker.check(cells, Pipe())
    assert answers == [None]
