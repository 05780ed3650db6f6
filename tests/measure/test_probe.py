"""The cost of a cell is that of its largest batch, which memory must hold in the probe and in packs."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import DATA, FP32, PLAN, small, training
from torch import Tensor, nn

from bench.config.compose import cells
from bench.events import Event, Probed
from bench.measure.probe import probe
from bench.methods.selective import full
from bench.models.speed.speedups import Fast
from bench.runner import packing as trials
from bench.runner import worker
from bench.runner.packing import Trials
from bench.runner.setup import CellSetup
from bench.tasks.encoding.rows import Rows
from bench.train import step as stepping
from bench.train.batches import Batch
from bench.train.evaluate import forward
from bench.train.memory import kept_bytes, storages

FAST = Fast("torch", "all")


def rows_of(*lengths: int, each: int = 1) -> Rows:
    sizes = torch.tensor(lengths)
    ids = torch.randint(1, 60, (int(sizes.sum()),), generator=torch.Generator().manual_seed(0))
    return Rows(ids, sizes.cumsum(0) - sizes, sizes, torch.arange(len(lengths) // each) % 2, 0, each=each)


REMAINDER = rows_of(*[20] * 16, 30)  # two batches of eight rows, and the longest row alone


@pytest.mark.parametrize(
    ("rows", "settings", "shape"),
    [
        (REMAINDER, {}, (8, 20)),
        (replace(REMAINDER, multiple=8), {}, (8, 24)),
        (REMAINDER, {"micro": 1}, (1, 30)),  # one row at a time
        (REMAINDER, {"micro": 4}, (8, 20)),
        (rows_of(*[10] * 8, *[20] * 3), {}, (8, 10)),
        (rows_of(*[10] * 8, *[20] * 4), {}, (4, 20)),  # at equal tokens the longer rows: attention is quadratic
        (rows_of(*[10] * 8, *[20] * 5), {}, (5, 20)),
        (rows_of(*[4] * 20, 12), {"tokens": 24}, (6, 4)),
        (rows_of(*[5] * 16, 30, 1, each=2), {}, (16, 5)),
    ],
)
def test_the_largest_batch_has_the_most_tokens_including_padding(
    rows: Rows, settings: dict[str, int], shape: tuple[int, int]
) -> None:
    assert tuple(replace(PLAN, **settings).largest(rows).input_ids.shape) == shape


def test_the_probe_runs_the_largest_batch_first_and_counts_its_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def record_shape(model: nn.Module, batch: Batch) -> Tensor:
        shapes.append(tuple(batch.input_ids.shape))
        return forward(model, batch)

    monkeypatch.setattr(stepping, "forward", record_shape)
    cost = probe(full(small()), training(replace(DATA, train=REMAINDER)), steps=1, lr=1e-3, fast=FAST)
    assert shapes[0] == (8, 20)
    largest = PLAN.largest(REMAINDER)
    assert cost["memory"]["activations"] == kept_bytes(full(small()), largest, FP32)


def a_cell(tmp_path: Path, *words: str) -> Any:
    settings = ["model=tiny-llama", "task=quiz", "method=lora", "rank=4", "precision=fp32", "seeds=[0,1]", "device=cpu"]
    small_settings = [
        "protocol.probe_steps=2",
        "protocol.train_rows=17",
        "protocol.epochs=1",
        "protocol.batch=16",
        f"cache_dir={tmp_path}",
    ]
    (cell,) = cells([*settings, *small_settings, f"cache_dir={tmp_path}", *words], multirun=False)
    return cell


def test_room_for_a_pack_is_measured_on_the_largest_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Batch] = []

    def room(_: nn.Module, batch: Batch, *__: Any) -> int:
        measured.append(batch)
        return 9

    monkeypatch.setattr(trials, "room_for", room)
    cell = a_cell(tmp_path)
    setup = CellSetup.of(cell)
    for micro, rows in ((None, 16), (4, 4)):
        given = replace(setup.training, plan=replace(setup.training.plan, micro=micro))
        runner = Trials(replace(setup, training=given), lambda _: None)
        runner.packed(cell.trials)
        assert measured.pop().rows == rows


def test_a_probe_that_runs_out_of_memory_is_freed_before_a_smaller_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references: list[Any] = []
    freed: list[bool] = []
    measure_cost = worker.measure_cost

    def narrow(*arguments: Any) -> dict[str, Any]:
        held = torch.ones(8)
        references.append(weakref.ref(held))
        if arguments[0].training.plan.at_once(16, 1) > 4:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(held)}")
        return measure_cost(*arguments)

    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: freed.append(all(reference() is None for reference in references))
    )
    monkeypatch.setattr(worker, "measure_cost", narrow)
    events: list[Event] = []
    worker.run_cell(worker.Job(a_cell(tmp_path), (), probe=True), events.append)
    (probed,) = [event for event in events if isinstance(event, Probed)]
    assert probed.cost["micro"] == 4
    assert freed == [True, True]


INDICES = 2 * 4 * 8  # of four entries in a sparse 4x4 matrix


@pytest.mark.filterwarnings("ignore:Sparse C.. tensor support is in beta state")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Tensor.clone, 64),
        (lambda tensor: tensor[1:], 64),  # a view keeps the whole storage
        (Tensor.to_sparse, INDICES + 4 * 4),
        (Tensor.to_sparse_csr, 5 * 8 + INDICES + 4 * 4),
        (Tensor.to_sparse_csc, 5 * 8 + INDICES + 4 * 4),
        (Tensor.to_mkldnn, 64),
    ],
)
def test_the_bytes_of_every_kind_of_tensor_are_counted(change: Callable[[Tensor], Tensor], expected: int) -> None:
    assert sum(storages(change(torch.eye(4))).values()) == expected
