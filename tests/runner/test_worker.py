"""What an exception means for the record, and what the check before a sweep accepts."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench.cells.cell import Cell
from bench.config import compose as grid
from bench.models import architectures
from bench.runner import worker
from bench.train.curve import Diverged

Answer = tuple[dict[str, str], str | None]
METHODS = "full,head,bitfit,lora,ia3,adapter,adapter_pfeiffer"  # the others: test_every_method.py
MODELS = ["model=minilm,bert-base", "model.weights=random", "track=off"]


def pipe_to(answers: list[Answer]) -> SimpleNamespace:
    return SimpleNamespace(send=answers.append)


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
def test_every_exception_becomes_an_outcome_with_its_error(error: Exception, outcome: str) -> None:
    described, details = worker.describe(error)
    assert described == outcome
    assert details["type"] == type(error).__name__
    assert details["message"] == str(error)
    assert details["type"] in details["traceback"]


def test_a_real_allocation_failure_is_an_oom() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert worker.describe(caught.value)[0] == "oom"


def test_every_method_attaches_to_every_model_we_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub is needed: the architecture is enough."""
    answers: list[Answer] = []
    cells = grid.cells([f"method={METHODS}", "rank=4", *MODELS], multirun=True)
    assert len(cells) == 14
    monkeypatch.setattr(worker, "load_task", lambda _: None)

    worker.check_cells(cells, pipe_to(answers))
    assert answers == [({}, None)]


def checked(cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> Answer:
    answers: list[Answer] = []
    monkeypatch.setattr(worker, "load_task", lambda _: None)
    worker.check_cells(cells, pipe_to(answers))
    (answer,) = answers
    return answer


def test_a_cell_that_does_not_attach_is_reported_by_its_id_and_the_others_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["method=adapter", "rank=4,8", "method.attach.after=[attention],[nose]", "track=off"]
    cells = grid.cells(overrides, multirun=True)
    wrong = {cell.id: cell for cell in cells if cell.config["method"]["attach"]["after"] == ["nose"]}
    assert (len(cells), len(wrong)) == (4, 2)
    misfits, complaint = checked(cells, monkeypatch)
    assert complaint is None
    assert set(misfits) == set(wrong)
    for name, why in misfits.items():
        assert why.startswith(f"{wrong[name].title}: method.attach.after: 'nose' is unknown; choose from attention, ")


def test_a_method_that_needs_a_gpu_does_not_fit_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = grid.cells(["method=head", "method.needs_cuda=true,false", "device=cpu", "track=off"], multirun=True)
    (name,) = {cell.id for cell in cells}
    misfits, complaint = checked(cells[:1], monkeypatch)
    assert complaint is None
    assert "'head' needs a CUDA device" in misfits[name]
    assert checked(cells[1:], monkeypatch) == ({}, None)


def test_an_error_in_every_combination_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = grid.cells(["method=lora", "+method.attach.config.lora_alfa=3", "track=off"], multirun=False)
    misfits, complaint = checked(cells, monkeypatch)
    assert misfits == {}
    assert "lora_alfa" in complaint


def test_a_model_that_its_architecture_does_not_describe_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a model would be trained in the wrong places and scored by the wrong token."""
    monkeypatch.setitem(architectures.ARCHITECTURES, "bert", replace(architectures.BERT, decoder=True))
    cells = grid.cells(["method=lora", "rank=4", *MODELS], multirun=True)
    misfits, complaint = checked(cells, monkeypatch)
    assert not misfits
    assert complaint is not None
    assert "the entry 'bert' of bench/models/architectures.py does not describe" in complaint
    assert "decoder=True, but a token attends to all tokens" in complaint
