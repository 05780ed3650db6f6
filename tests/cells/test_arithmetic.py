"""What the device decides is reported, or rejected in one line, before anything is trained. No GPU is needed here."""

from dataclasses import replace
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit
from bench.config import accelerator
from bench.config import compose as grid
from bench.events import Event, Ready
from bench.runner import setup, worker
from bench.runner.build import arithmetic
from bench.train.device import Compute, check_rule, exact_products, notes_on, pick_dtype

GPU, CPU = torch.device("cuda"), torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32


@pytest.fixture(params=["has", "emulates", "lacks"])
def bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Simulate a machine with a GPU that has bf16, emulates it or lacks it."""
    pretend(request.param, monkeypatch)
    return str(request.param)


def pretend(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:  # noqa: FBT001, FBT002 - torch's signature
        return how == "has" or (how == "emulates" and including_emulation)

    capability = {"has": 9, "emulates": 7, "lacks": 6}[how]
    monkeypatch.setattr(accelerator, "NVIDIA", (__file__,))  # an existing file
    monkeypatch.setattr(accelerator, "_built_for_gpus", lambda: True)
    monkeypatch.setattr(accelerator, "_capability", lambda _: capability)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")


def test_a_precision_that_the_device_does_not_use_is_rejected(bf16: str) -> None:
    """The command line resolves `auto` by what the system reports of the GPU; torch has the last word."""
    if bf16 == "has":
        check_rule("bf16", GPU)
        with pytest.raises(
            ValueError, match="mean fp32, but PyTorch computes on Tesla T4, which no device file shows; use"
        ):
            check_rule("fp32", GPU)
    else:
        check_rule("fp32", GPU)
        with pytest.raises(
            ValueError, match=r"taken to mean bf16, but Tesla T4 does not support it; use precision=fp32$"
        ):
            check_rule("bf16", GPU)


def test_bf16_is_rejected_on_a_cpu_where_torch_cannot_use_the_gpu() -> None:
    check_rule("fp32", CPU)
    with pytest.raises(ValueError, match=r"mean bf16, but PyTorch .* cannot use the machine's GPU .*; use device=cpu$"):
        check_rule("bf16", CPU)


def test_a_cell_computes_in_the_precision_of_its_identity() -> None:
    (auto, explicit) = cells("precision=auto,bf16")
    assert (arithmetic(auto, CPU), arithmetic(explicit, CPU)) == (FP32, BF16)
    (base,) = cells("quant=bf16")
    assert arithmetic(base, CPU) is BF16
    with pytest.raises(ValueError, match="precision=auto was taken to mean bf16"):
        arithmetic(replace(auto, precision="bf16"), CPU)


def test_the_environment_does_not_reduce_the_precision_of_fp32_products() -> None:
    """NVIDIA's containers reduce it by a variable that torch reads when it is loaded."""
    torch.set_float32_matmul_precision("high")
    exact_products()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def test_bf16_that_the_gpu_lacks_is_refused(bf16: str) -> None:
    assert pick_dtype("fp32", GPU) is FP32
    if bf16 == "lacks":
        with pytest.raises(ValueError, match=r"^precision=bf16, but Tesla T4 does not support it; use precision=fp32$"):
            pick_dtype("bf16", GPU)
    else:
        assert pick_dtype("bf16", GPU) is BF16


def test_a_note_says_what_a_gpu_without_bf16_computes_in(bf16: str) -> None:
    notes = {
        "has": [],
        "emulates": ["Tesla T4 has no bf16: trained in fp32"],
        "lacks": ["Tesla T4 has no bf16: trained in fp32"],
    }
    assert notes_on("auto", Compute(GPU, BF16 if bf16 == "has" else FP32), gpu=True) == notes[bf16]
    assert notes_on("auto", Compute(CPU, FP32), gpu=False) == notes_on("cpu", Compute(CPU, FP32), gpu=True) == []


def test_a_note_says_that_emulated_bf16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("emulates", monkeypatch)
    (note,) = notes_on("auto", Compute(GPU, BF16), gpu=True)
    assert note == "Tesla T4 emulates bf16, which is slow: precision=fp32 may be faster"


@pytest.mark.parametrize(("built", "why"), [("12.8", "its driver may be too old"), (None, "it is built for CPUs only")])
def test_a_note_names_a_gpu_that_torch_cannot_use(built: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", built)
    (note,) = notes_on("auto", Compute(CPU, FP32), gpu=True)
    assert note.startswith("the machine has a GPU, but PyTorch ")
    assert note.endswith(f"cannot use it ({why}): trained on the CPU")


def cells(*words: str) -> list[Cell]:
    return grid.cells(["method=lora", "track=off", *words], multirun=True)


def test_the_notes_reach_the_terminal_and_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "gpu_visible", lambda: True)
    (cell,) = cells("protocol=smoke", f"cache_dir={tmp_path}")
    events: list[Event] = []
    worker.run_cell(worker.Job(cell, (), probe=False), events.append)
    (ready,) = [event for event in events if isinstance(event, Ready)]
    assert any("the machine has a GPU" in note for note in ready.device["notes"])


FLASH = "fast.attention=flash_attention_2"


def checked(grid_cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    answers: list[Any] = []
    monkeypatch.setattr(worker, "load_task", lambda _: None)
    worker.check_cells(grid_cells, SimpleNamespace(send=answers.append))
    ((misfits, complaint),) = answers
    assert complaint is None
    return misfits


def test_flash_attention_in_fp32_is_refused(bf16: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for an explicit precision and for what `auto` means on this GPU."""
    with pytest.raises(Misfit, match=r"cannot compute in precision=fp32; use precision=bf16, or fast.attention=sdpa"):
        cells(FLASH, "precision=fp32")
    monkeypatch.setattr(worker, "find_spec", lambda name: name == "flash_attn" or util.find_spec(name))
    explicit, auto = cells(FLASH, "precision=bf16"), cells(FLASH, "precision=auto")
    misfits = checked([*explicit, *auto], monkeypatch)
    assert set(misfits) == {
        cell.id for cell, wrong in ((explicit[0], bf16 == "lacks"), (auto[0], bf16 != "has")) if wrong
    }
    if bf16 != "has":
        assert "which precision=auto means on this device" in misfits[auto[0].id]


def test_cells_are_left_out_whose_precision_torch_would_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has a GPU, and torch is built for a GPU but cannot use it."""
    pretend("has", monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    auto, on_cpu, explicit = (
        cell for words in ("", "device=cpu", "precision=fp32") for cell in cells(words or "rank=8")
    )
    assert [auto.precision, on_cpu.precision, explicit.precision] == ["bf16", "fp32", "fp32"]
    ((left_out, why),) = checked([auto, on_cpu, explicit], monkeypatch).items()
    assert left_out == auto.id
    assert why.startswith("lora r=8 qv: precision=auto was taken to mean bf16, but PyTorch ")
    assert why.endswith("cannot use the machine's GPU (its driver may be too old); use device=cpu")


def test_a_precision_that_the_gpu_lacks_leaves_out_only_its_own_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("lacks", monkeypatch)
    grid_cells = cells("precision=bf16,fp32,auto")
    misfits = checked(grid_cells, monkeypatch)
    assert misfits == {
        grid_cells[0].id: "lora r=8 qv: precision=bf16, but Tesla T4 does not support it; use precision=fp32"
    }
