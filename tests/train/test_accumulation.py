"""A batch in parts makes the same update as the whole batch, and running out of memory makes the parts smaller."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import FP32
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from bench.config.compose import cells
from bench.events import Ended, Event, Started, Stepped
from bench.models.speed.speedups import Fast
from bench.runner.build import load_data, recipe_of
from bench.runner.packing import Trials
from bench.runner.setup import CellSetup
from bench.tasks.encoding.rows import Rows
from bench.tasks.outputs import HEAD, Continuation, Letters, OutputReader
from bench.train import step as stepping
from bench.train.batches import Batch, collate, lockstep
from bench.train.evaluate import forward, loss_of
from bench.train.settings import HALVINGS, Plan, Training

CPU = torch.device("cpu")
ROWS = 7


def batch(read: OutputReader) -> Batch:
    """Make seven rows of 4 to 9 tokens with answers of 1 to 3 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 10, (ROWS,), generator=generator)
    answer = torch.randint(1, 4, (ROWS,), generator=generator)
    ids = torch.randint(1, 50, (int(lengths.sum()),), generator=generator)
    labels = torch.arange(ROWS) % 3
    rows = Rows(ids, lengths.cumsum(0) - lengths, lengths, labels, 0, pad_left=True, answer=answer, read=read)
    return collate(rows, torch.arange(ROWS))


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, intermediate_size=32, **sizes)).eval()


def gradient(model: nn.Module, parts: list[Batch]) -> tuple[float, Tensor]:
    model.zero_grad()
    losses = []
    for part in parts:
        loss = loss_of(forward(model, part), part)
        loss.backward()
        losses.append(float(loss.detach()))
    return sum(losses), torch.cat([part.grad.flatten() for part in model.parameters() if part.grad is not None])


@pytest.mark.parametrize("micro", [1, 2, 3, 6])
@pytest.mark.parametrize("read", [Continuation(), Letters((3, 5, 7))], ids=["answers of several tokens", "letters"])
def test_parts_add_up_to_the_whole(read: OutputReader, micro: int) -> None:
    model, whole = llama(), batch(read)
    parts = whole.parts(micro)
    assert [part.rows for part in parts] == [*[micro] * (ROWS // micro), *([ROWS % micro] if ROWS % micro else [])]
    (expected_loss, expected), (loss, summed) = (gradient(model, given) for given in ([whole], parts))
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    torch.testing.assert_close(summed, expected, rtol=0, atol=1e-5)


def test_a_part_is_weighted_by_its_tokens_and_not_by_its_rows() -> None:
    whole = batch(Continuation())
    assert whole.answer is not None
    shares = [float(part.share) for part in whole.parts(3) if part.share is not None]
    tokens = whole.answer.tolist()
    assert shares == pytest.approx([sum(tokens[first : first + 3]) / sum(tokens) for first in (0, 3, 6)])
    assert shares[0] != pytest.approx(3 / ROWS)


def test_packed_seeds_have_their_own_shares() -> None:
    first = batch(Continuation())
    assert first.answer is not None
    second = replace(first, answer=first.answer.flip(0))
    (both,) = lockstep([iter([first]), iter([second])])
    for number, part in enumerate(both.parts(3)):
        expected = [given.parts(3)[number].share for given in (first, second)]
        assert part.share is not None
        assert part.share.tolist() == pytest.approx([float(share) for share in expected if share is not None])


def test_a_batch_that_is_small_enough_stays_whole() -> None:
    whole = batch(HEAD)
    assert whole.parts(None) == [whole]
    assert whole.parts(ROWS) == [whole]
    assert whole.parts(ROWS - 1)[0].share is not None


Run = Callable[..., tuple[list[Event], list[int]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train a trial where at most `room` rows fit at once; return its events and the rows of every attempt."""

    def call(room: int, *words: str, hold: Callable[[], object] = list) -> tuple[list[Event], list[int]]:
        settings = ["model=tiny-llama", "task=quiz", "method=lora", "rank=4", "precision=fp32", "seeds=[0]"]
        small = ["protocol.train_rows=32", "protocol.epochs=1", "protocol.batch=16", f"cache_dir={tmp_path}"]
        (cell,) = cells([*settings, *small, *words], multirun=False)
        events, tried = list[Event](), list[int]()

        def narrow(model: nn.Module, part: Batch) -> Tensor:
            tried.append(part.rows)
            held = hold()
            if part.rows > room:
                raise torch.OutOfMemoryError(f"no room next to {held}")
            return forward(model, part)

        monkeypatch.setattr(stepping, "forward", narrow)
        plan, data = Plan.of(cell.conf.protocol), load_data(cell)
        data = replace(data, select=data.select.first(4), report=data.report.first(4), about={})
        given = Training(data, plan, recipe_of(cell), FP32)
        Trials(CellSetup(cell, given, Fast("torch", "all")), events.append).run(cell.trials)
        return events, tried

    return call


def ended(events: list[Event]) -> Ended:
    (end,) = [event for event in events if isinstance(event, Ended)]
    return end


def losses(events: list[Event]) -> list[float]:
    """Return the losses of the last attempt."""
    last = max(place for place, event in enumerate(events) if isinstance(event, Started))
    return [loss for event in events[last:] if isinstance(event, Stepped) for loss in event.curve["loss"]]


def test_running_out_of_memory_halves_the_rows_at_once(run: Run) -> None:
    events, tried = run(4)
    assert tried == [16, 8, *[4] * 8]
    cost: Any = ended(events).cost
    assert cost["micro"] == 4
    unsplit, _ = run(16)
    assert ended(unsplit).cost["micro"] is None  # type: ignore[index]
    assert losses(events) == pytest.approx(losses(unsplit), abs=1e-5)


def test_the_number_of_halvings_is_limited(run: Run) -> None:
    events, tried = run(0)
    assert tried == [16 >> times for times in range(HALVINGS + 1)]
    assert ended(events).outcome == "oom"


def test_on_oom_record_ends_the_trial_without_halving(run: Run) -> None:
    events, tried = run(4, "on_oom=record")
    assert tried == [16]
    assert ended(events).outcome == "oom"


def test_halving_starts_from_the_rows_of_the_data(run: Run) -> None:
    """32 rows make no batch of 64, so an attempt with half of 64 would be useless."""
    _, tried = run(8, "protocol.batch=64")
    assert tried == [32, 16, *[8] * 4]


def test_a_batch_that_is_limited_by_tokens_halves_its_tokens(run: Run) -> None:
    """`batch` is not the number of rows in such a batch; the lower bound follows the actual batch as well."""
    events, tried = run(2, "protocol.tokens=512", "protocol.batch=2")
    assert ended(events).outcome == "ok"
    assert tried[0] > 2
    assert max(tried[-8:]) <= 2
    cost: Any = ended(events).cost
    assert cost["micro"] is None
    assert 0 < cost["micro_tokens"] <= 128  # two halvings at least
    unsplit, _ = run(512, "protocol.tokens=512")
    assert losses(events) == pytest.approx(losses(unsplit), abs=1e-5)


def test_halving_tokens_ends_with_single_rows(run: Run) -> None:
    events, tried = run(0, "protocol.tokens=512")
    assert ended(events).outcome == "oom"
    assert tried == sorted(set(tried), reverse=True)
    assert 1 < len(tried) <= HALVINGS + 1
    assert tried[-1] == 1


def test_a_failed_attempt_is_freed_before_the_next_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of a traceback keep their tensors: while they live, emptying the cache has no effect."""
    references: list[Any] = []
    freed: list[bool] = []

    def hold() -> Tensor:
        tensor = torch.ones(8)
        references.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: freed.append(all(reference() is None for reference in references))
    )
    run(4, hold=hold)
    assert len(freed) == 2
    assert all(freed)


def test_a_micro_batch_does_not_change_the_cell() -> None:
    names = {
        cells(["method=lora", *words], multirun=False)[0].id for words in ([], ["protocol.micro=4"], ["on_oom=record"])
    }
    assert len(names) == 1
    with pytest.raises(ValueError, match=r"^protocol\.micro=0 must be at least 1"):
        cells(["protocol.micro=0"], multirun=False)
