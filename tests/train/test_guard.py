"""A trial has a score only if its trained tensors move and its frozen tensors do not."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from broken_leaves import detached, silenced, sound
from peft import LoraConfig, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from small_trials import PLAN, small, train, training
from torch import nn

from bench.hooks import Hooks
from bench.methods.selective import full, head
from bench.models.quant import Quant
from bench.models.structure import blocks, is_head
from bench.runner import worker
from bench.train.batches import Batch
from bench.train.curve import FLUSH_STEPS, Curve, Measured
from bench.train.guard import Guard, Unsound, fingerprints
from bench.train.outcome import Diverged
from bench.train.packed.start import rehearse
from bench.train.untrained import score_untrained

Run = Callable[..., subprocess.CompletedProcess[str]]

METHOD = """
name: detached
family: broken
paper: none
uses: []
lr: 1.0e-2
lr_source: "none: an example"
attach:
  _target_: broken_leaves.detached
  _partial_: true
"""


def lora(quant: Quant | None = None) -> nn.Module:
    return get_peft_model(small(quant=quant), LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], r=4))


class Moving(Hooks):
    """Changes a frozen tensor after each update."""

    def __init__(self, part: str) -> None:
        self.part = part

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        tensors = [*model.named_parameters(), *model.named_buffers()]
        next(tensor for name, tensor in tensors if self.part in name).add_(1)


def test_a_trained_leaf_without_a_gradient_fails_with_the_reason() -> None:
    with pytest.raises(Unsound, match=r"steps 1 to 8: the gradients .* are exactly zero") as caught:
        train(detached(small()))
    outcome, error = worker.describe(caught.value)
    assert (outcome, error["type"]) == ("failed", "Unsound")
    assert "below the head" in error["message"]


def test_the_same_leaf_with_a_gradient_passes() -> None:
    ended, curve = train(sound(small()))
    assert ended.outcome == "ok"
    assert len(curve["loss"]) == ended.cost["steps"] == 8


def test_weight_decay_alone_does_not_count_as_learning() -> None:
    model = silenced(small())
    with pytest.raises(Unsound, match="exactly zero"):
        train(model, plan=replace(PLAN, weight_decay=0.5))
    assert not torch.equal(blocks(model)[0].shift.detach(), torch.full((1, 32), 0.1))  # it did move


def test_a_leaf_without_a_gradient_is_recorded_as_failed_without_a_score(
    inline: Run, tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "detached.yaml").write_text(METHOD)
    done = inline("--config-dir", str(tmp_path / "mine"), *tiny, "method=detached", "seeds=[0]")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "exactly zero" in done.stdout
    (path,) = (tmp_path / "results").rglob("lr*-seed0.json")
    record = json.loads(path.read_text())
    assert (record["outcome"], record["scores"], record["predictions"]) == ("failed", None, None)
    assert record["error"]["type"] == "Unsound"


@pytest.mark.parametrize("part", ["word_embeddings.weight", "LayerNorm.bias", "position_ids", "original_module.weight"])
def test_a_method_that_moves_a_frozen_tensor_fails(part: str) -> None:
    with pytest.raises(Unsound, match=rf"1 frozen tensors moved, the first is .*{part}"):
        train(lora(), Moving(part))


def test_a_method_that_moves_a_trained_tensor_passes() -> None:
    assert train(lora(), Moving("lora_B"))[0].outcome == "ok"


def test_a_trained_leaf_that_does_not_move_fails_even_with_gradients() -> None:
    model = sound(small())
    guard = Guard(model)
    with torch.no_grad():
        model.classifier.weight.add_(1)
    with pytest.raises(Unsound, match="none of the 2 trained tensors moved"):
        guard.check(model)


def test_a_frozen_head_is_refused() -> None:
    model = full(small())
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not is_head(name, model)
    with pytest.raises(Unsound, match="head is frozen"):
        train(model)


def test_the_method_that_trains_the_head_alone_passes() -> None:
    assert train(head(small()))[0].outcome == "ok"


ONE = Batch(torch.ones(1, 1), None, torch.zeros(1), 1)


def fed(norms: list[float]) -> None:
    """Feed a curve with these gradient norms of the tensors below the head."""
    curve = Curve("one", emit=lambda _: None)
    for norm in norms:
        curve.add(Measured(torch.ones(()), None, torch.ones(()), torch.tensor(norm)), 1e-3, ONE)


def test_ten_updates_without_a_gradient_below_the_head_are_unsound_unless_one_has_it() -> None:
    assert FLUSH_STEPS == 10
    with pytest.raises(Unsound, match="steps 1 to 10"):
        fed([0.0] * 10)
    with pytest.raises(Unsound, match="steps 11 to 20"):
        fed([1.0] * 10 + [0.0] * 10)
    fed([0.0] * 9)
    for alive in range(10):
        fed([float(number == alive) * 1e-30 for number in range(10)])


def test_a_single_update_without_a_gradient_at_the_end_of_an_epoch_is_sound() -> None:
    curve = Curve("one", emit=lambda _: None)
    for norm in [1.0] * 10 + [0.0]:
        curve.add(Measured(torch.ones(()), None, torch.ones(()), torch.tensor(norm)), 1e-3, ONE)
    curve.flush()
    curve.finish()


def test_updates_without_any_gradient_are_sound() -> None:
    curve = Curve("one", emit=lambda _: None)
    for _ in range(20):
        curve.add(Measured(torch.zeros(()), None, torch.zeros(()), torch.zeros(())), 1e-3, ONE)
    curve.finish()


def test_a_loss_that_is_not_finite_before_any_update_is_not_blamed_on_the_rate() -> None:
    for step, error, advice in ((1, Unsound, "precision=fp32"), (2, Diverged, "try a lower learning rate")):
        curve = Curve("one", emit=lambda _: None)
        for number in range(1, 4):
            loss = torch.tensor(torch.nan if number >= step else 1.0)
            curve.add(Measured(loss, None, torch.ones(()), torch.ones(())), 1e-3, ONE)
        with pytest.raises(error, match=f"^step {step}: loss nan.*{advice}"):
            curve.flush()


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named_before_anything_is_trained(number: float) -> None:
    model = lora()
    with torch.no_grad():
        dict(model.named_parameters())["base_model.model.bert.embeddings.word_embeddings.weight"][7, 3:5] = number
    message = r"not finite before training: .*word_embeddings\.weight has 2 of 1,920"
    with pytest.raises(Unsound, match=message):
        train(model)
    with pytest.raises(Unsound, match=message):
        score_untrained(model.merge_and_unload(), "one", training(), lambda _: None)


def test_large_weights_and_infinite_buffers_pass() -> None:
    model = lora()
    model.register_buffer("mask", torch.full((4,), -torch.inf))
    with torch.no_grad():
        next(part for name, part in model.named_parameters() if "pooler" in name).fill_(1e30)  # its norm is infinite
    Guard(model)


@pytest.mark.parametrize("pack", ["1", "2"])
def test_a_base_with_nan_is_recorded_as_failed_with_the_tensors_name(
    pack: str, inline: Run, tiny: list[str], tiny_bert: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bert, broken)
    weights = load_file(broken / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][0, 0] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    done = inline(*tiny, f"model.name={broken}", "method=lora", "seeds=[0,1]", f"pack={pack}")
    assert done.returncode == 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("lr*-seed*.json")]
    assert [record["outcome"] for record in records] == ["failed", "failed"]
    for record in records:
        assert "encoder.layer.1.output.dense.weight has 1 of 2,048" in record["error"]["message"]
        assert "learning rate" not in record["error"]["message"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.int8])
@pytest.mark.parametrize("entries", [1, 2, 64])
def test_an_equal_change_of_all_entries_is_detected(entries: int, dtype: torch.dtype) -> None:
    before, after = torch.ones(entries, dtype=dtype), torch.full((entries,), 3, dtype=dtype)
    assert fingerprints({"it": before}) != fingerprints({"it": after})
    assert fingerprints({"it": before}) == fingerprints({"it": before.clone()})


def test_a_change_that_keeps_the_sum_is_detected() -> None:
    before, after = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 2.0])
    assert fingerprints({"it": before}) != fingerprints({"it": after})


def test_a_change_of_opposite_signs_is_detected() -> None:
    before, after = torch.zeros(4), torch.tensor([0.5, -0.5, -0.5, 0.5])
    assert fingerprints({"it": before}) != fingerprints({"it": after})


def test_the_smallest_change_of_one_weight_is_detected() -> None:
    before = torch.randn(500, 500)
    after = before.clone()
    after[7, 7] = torch.nextafter(after[7, 7], torch.tensor(9.0))
    assert fingerprints({"it": before}) != fingerprints({"it": after})


@pytest.mark.parametrize("what", ["head", "lora", "vera", "nf4"])
def test_an_evaluation_changes_no_fingerprint(what: str) -> None:
    if what == "head":
        model = head(small())
    elif what == "vera":
        model = get_peft_model(small(), VeraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], r=4))
    else:
        model = lora(Quant("nf4", double=True, compute=torch.float32) if what == "nf4" else None)
    before = Guard(model)
    rehearse(model, training())
    after = Guard(model)
    assert before.frozen == after.frozen
    assert before.trained == after.trained
