"""Checkpointing runs blocks twice instead of storing activations: the same numbers, less memory."""

from pathlib import Path

import pytest
import torch
from small_trials import FP32
from test_every_method import KINDS, batch_for, cell_of, folders  # noqa: F401

from bench.models.vmap.dropout import Streams, drawing, of_trial
from bench.runner.build import build
from bench.train.batches import Batch
from bench.train.evaluate import forward
from bench.train.memory import kept_bytes

CPU = torch.device("cpu")


def gradients(cell: object, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the gradients of one step with dropout drawn from the trial's stream."""
    model = build(cell, seed=0, compute=FP32).train()  # type: ignore[arg-type]
    streams = Streams([3], CPU)
    streams.start(5)
    with drawing(streams), of_trial(torch.tensor(0)):
        logits = forward(model, batch)
    torch.nn.functional.cross_entropy(logits, batch.labels).backward()
    return {name: part.grad for name, part in model.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["full", "lora", "adapter", "dora"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_gives_the_same_gradients(
    name: str,
    kind: str,
    dropout: float,
    folders: dict[str, Path],  # noqa: F811
) -> None:
    batch, settings = batch_for(kind), ("checkpointing=true", f"protocol.dropout={dropout}")
    expected = gradients(cell_of(name, folders[kind], settings[1]), batch)
    recomputed = gradients(cell_of(name, folders[kind], *settings), batch)
    assert recomputed.keys() == expected.keys()
    for part, gradient in expected.items():
        torch.testing.assert_close(recomputed[part], gradient, rtol=0, atol=1e-6, msg=part)


def test_checkpointing_keeps_less_memory(folders: dict[str, Path]) -> None:  # noqa: F811
    batch = batch_for("bert")
    bytes_kept = [
        kept_bytes(build(cell, seed=0, compute=FP32), batch, FP32)
        for cell in (cell_of("full", folders["bert"], f"checkpointing={word}") for word in ("false", "true"))
    ]
    assert bytes_kept[1] < bytes_kept[0] / 2


def test_a_checkpointed_cell_has_its_own_id_and_title(folders: dict[str, Path]) -> None:  # noqa: F811
    default, checkpointed = (cell_of("lora", folders["bert"], f"checkpointing={word}") for word in ("false", "true"))
    assert default.id != checkpointed.id
    assert checkpointed.title == f"{default.title} checkpointed"


@pytest.mark.parametrize("name", ["prefix", "prefix_projection", "prefix_text"])
def test_a_prefix_cannot_be_checkpointed(name: str, folders: dict[str, Path]) -> None:  # noqa: F811
    """transformers would silently leave the prefix out."""
    with pytest.raises(ValueError, match="may not be run twice; use checkpointing=false"):
        cell_of(name, folders["bert"], "checkpointing=true")
