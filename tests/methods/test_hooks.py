"""Methods beyond the forward pass: schedules, starts from data or words, and tokens that are not data."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from conftest import axes
from hydra.utils import instantiate
from omegaconf import OmegaConf
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from small_trials import DATA, FP32, PLAN, adamw, small, train, training
from torch import Tensor, nn

from bench.cells.compatibility import Misfit
from bench.config import compose as grid
from bench.config.compose import CONF
from bench.hooks import Hooks
from bench.measure.probe import probe
from bench.models.speed.speedups import Fast
from bench.models.targets import resolve
from bench.runner.build import build
from bench.train import loop
from bench.train.batches import epoch
from bench.train.evaluate import arguments, forward
from bench.train.packed.start import rehearse
from bench.train.settings import Recipe
from bench.train.trial_state import Best

TARGET_R = 4


def attached(name: str, rank: int = 8) -> tuple[nn.Module, Any]:
    """Attach the method of a yaml to a tiny BERT, the same every time; return it with its hooks."""
    conf: Any = OmegaConf.to_container(
        OmegaConf.merge(axes(rank), OmegaConf.load(CONF / "method" / f"{name}.yaml")), resolve=True
    )
    torch.manual_seed(0)
    model = instantiate(conf["attach"])(small(), target=resolve(conf["target"], "bert"))
    return model, instantiate(conf["hooks"])


def parts(model: nn.Module, kind: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if f".{kind}." in name}


def ranks(model: nn.Module) -> list[int]:
    """Return the number of singular values that AdaLoRA has left, by matrix."""
    return [int(values.count_nonzero()) for values in parts(model, "lora_E").values()]


class Watched(Hooks):
    """AdaLoRA's hooks, which record the ranks and singular values after each step."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.penalty, self.begin, self.is_final = hooks.penalty, hooks.begin, hooks.is_final
        self.total: list[int] = []
        self.values: list[Tensor] = []

    def after_step(self, model: nn.Module, step: int) -> None:
        self.hooks.after_step(model, step)
        self.total.append(sum(ranks(model)))
        self.values.append(torch.cat(list(parts(model, "lora_E").values())).detach().clone())


def test_adalora_prunes_to_its_target_and_then_keeps_the_ranks() -> None:
    model, hooks = attached("adalora")
    watched = Watched(hooks)
    ended, _ = train(model, watched, plan=replace(PLAN, epochs=4))
    assert ended.outcome == "ok"
    assert len(watched.total) == 32
    assert watched.total[:3] == [32] * 3  # four matrices of rank 8, through the first tenth of the steps
    pruned = watched.total[4:21:5]  # between two prunings a singular value may return
    assert 32 > pruned[0] > pruned[1] > pruned[2] >= pruned[3] >= TARGET_R * 4
    assert watched.total[21:] == [TARGET_R * 4] * 11  # and fixed through the last three tenths
    assert sum(ranks(model)) == TARGET_R * 4


@pytest.mark.parametrize("rank", [5, 8])
@pytest.mark.parametrize("epochs", [1, 2])
def test_adalora_ends_at_its_target_however_short_the_training(rank: int, epochs: int) -> None:
    model, hooks = attached("adalora", rank)
    train(model, hooks, plan=replace(PLAN, epochs=epochs, batch=32))  # 2 and 4 steps
    assert sum(ranks(model)) == TARGET_R * 4


def test_a_checkpoint_before_the_final_ranks_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.9, 0.8, 0.7, 0.6, 0.0, 0.0])
    monkeypatch.setattr(loop, "chosen_by", lambda *_: next(scores))
    model, hooks = attached("adalora")
    watched = Watched(hooks)
    ended, _ = train(model, watched, plan=replace(PLAN, epochs=4))  # 8 steps per epoch; the ranks are final after 22
    assert ended.scores["select_by_epoch"] == [0.9, 0.8, 0.7, 0.6]
    assert ended.scores["best_epoch"] == 3
    left = torch.cat(list(parts(model, "lora_E").values()))
    assert torch.equal(left, watched.values[3 * 8 - 1])
    assert not torch.equal(left, watched.values[4 * 8 - 1])


def test_a_checkpoint_that_is_not_final_is_not_kept_however_good() -> None:
    weight = nn.Parameter(torch.zeros(1))
    best = Best([weight])
    for number, (score, final) in enumerate([(1.0, False), (0.2, True), (0.3, False), (0.1, True)]):
        nn.init.constant_(weight, number)
        best.offer(score, torch.tensor([number]), final=final)
    best.restore()
    assert (best.score, best.epoch, weight.item(), best.predictions.item()) == (0.2, 2, 1.0, 1)
    assert best.history == [1.0, 0.2, 0.3, 0.1]


def test_the_later_of_two_equal_checkpoints_is_chosen() -> None:
    weight = nn.Parameter(torch.zeros(1))
    best = Best([weight])
    for number, score in enumerate([0.2, 0.3, 0.1, 0.3, 0.1]):
        nn.init.constant_(weight, number)
        best.offer(score, torch.tensor([number]))
    best.restore()
    assert (best.score, best.epoch, weight.item(), best.predictions.item()) == (0.3, 4, 3.0, 3)


def test_the_curve_separates_adaloras_penalty_from_the_cross_entropy() -> None:
    model, hooks = attached("adalora")
    first = next(epoch(DATA.train, PLAN.batch, number=0, seed=0, data_seed=0))
    # PEFT's own forward adds the same term if it is given labels.
    both = model(**arguments(first), labels=first.labels).loss.item()
    loss = nn.functional.cross_entropy(forward(model, first), first.labels).item()
    _, curve = train(model, hooks)
    assert curve["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert curve["penalty"][0] == pytest.approx(both - loss, rel=1e-4)
    assert min(curve["penalty"]) > 0
    assert {len(values) for values in curve.values()} == {8}


def test_the_penalty_is_trained() -> None:
    penalties = []
    for weight in (0.0, 1.0):
        model, hooks = attached("adalora")
        model.peft_config["default"].orth_reg_weight = weight
        train(model, hooks)
        model.peft_config["default"].orth_reg_weight = 1.0
        penalties.append(hooks.penalty(model).item())
    assert penalties[1] < 0.9 * penalties[0]


def test_a_method_without_a_penalty_has_none_in_its_curve() -> None:
    model = get_peft_model(small(), LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    assert "penalty" not in train(model)[1]


@pytest.mark.filterwarnings("ignore:lora with eva initialization")
def test_eva_starts_a_from_the_data_and_leaves_b_at_zero() -> None:
    model, hooks = attached("eva")
    drawn = {name: tensor.detach().clone() for name, tensor in parts(model, "lora_A").items()}
    rehearse(model, training(recipe=Recipe(hooks, adamw, {})))
    starts = parts(model, "lora_A")
    assert len(starts) == 4
    assert starts.keys() == drawn.keys()
    for name, tensor in starts.items():
        assert tensor.shape == drawn[name].shape == (8, 32)
        assert not torch.equal(tensor, drawn[name])
        torch.testing.assert_close(tensor @ tensor.T, torch.eye(8), rtol=0, atol=1e-4)  # singular vectors
        assert tensor.requires_grad
    assert not any(tensor.any() for tensor in parts(model, "lora_B").values())


@pytest.mark.filterwarnings("ignore:lora with eva initialization")
def test_eva_starts_from_the_same_vectors_at_every_seed() -> None:
    starts = []
    for seed in (1, 2):
        model, hooks = attached("eva")
        torch.manual_seed(seed)
        rehearse(model, training(recipe=Recipe(hooks, adamw, {})))
        starts.append(torch.cat(list(parts(model, "lora_A").values())))
    assert torch.equal(*starts)


def built(overrides: list[str], seed: int = 0) -> nn.Module:
    (cell,) = grid.cells(overrides, multirun=False)
    return build(cell, seed=seed, compute=FP32)


def prompt(model: Any) -> Tensor:
    """Return the trained weights of a soft prompt: [tokens, numbers per token]."""
    weight: Tensor = model.prompt_encoder.default.embedding.weight
    return weight.detach()


@torch.no_grad()
def test_a_prefix_from_a_text_holds_the_frozen_models_keys_and_values(tiny: list[str]) -> None:
    text = ["method=prefix_text", "rank=4", "method.attach.text='a film was'"]
    model = built([*tiny, *text])
    prefix = prompt(model)
    torch.testing.assert_close(prefix, prompt(built([*tiny, *text], seed=1)), rtol=0, atol=0)
    drawn = [prompt(built([*tiny, "method=prefix", "rank=4"], seed=seed)) for seed in (0, 1)]
    assert prefix.shape == drawn[0].shape == (4, 2 * 2 * 32)
    assert not torch.allclose(prefix, drawn[0], atol=1e-2)
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-2)
    outputs: dict[str, Tensor] = {}
    backbone = model.base_model.bert
    for number, layer in enumerate(backbone.encoder.layer):
        for kind in ("key", "value"):
            keep = partial(lambda name, _, __, output: outputs.__setitem__(name, output[0]), f"{number}.{kind}")
            getattr(layer.attention.self, kind).register_forward_hook(keep)
    words = [backbone.config.vocab_size - 25 + place for place in (0, 3, 5, 0)]  # a film was a: see conftest's WORDS
    backbone(input_ids=torch.tensor([words]))
    expected = torch.cat([outputs[name] for name in ("0.key", "0.value", "1.key", "1.value")], dim=-1)
    torch.testing.assert_close(prefix, expected, rtol=0, atol=1e-5)


def test_a_prompt_of_labels_starts_at_the_embeddings_of_their_words(tiny: list[str]) -> None:
    model = built([*tiny, "method=prompt_labels", "rank=5", "task.labels=[bad,good]"])
    table = model.base_model.bert.embeddings.word_embeddings.weight.detach()
    good, bad = (len(table) - 25 + place for place in (9, 10))
    assert torch.equal(prompt(model), table[[bad, good, bad, good, bad]])


def soft(kind: str) -> nn.Module:
    configs = {
        "lora": partial(LoraConfig, target_modules=["query", "value"]),
        "prompt": partial(PromptTuningConfig, num_virtual_tokens=8),
        "prefix": partial(PrefixTuningConfig, num_virtual_tokens=8),
    }
    torch.manual_seed(0)
    return get_peft_model(small(), configs[kind](task_type="SEQ_CLS"))


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_virtual_tokens_are_not_counted_as_data(kind: str) -> None:
    tokens, ratios = [], []
    for which in ("lora", kind):
        ended, _ = train(soft(which))
        tokens.append(ended.cost["tokens"])
        cost = probe(soft(which), training(), steps=2, lr=1e-3, fast=Fast("torch", "all"))
        ratios.append(cost["tokens_per_second"] / cost["samples_per_second"])
    assert tokens == [int(DATA.train.lengths.sum())] * 2
    assert ratios[0] == pytest.approx(ratios[1])


@pytest.mark.parametrize("method", ["prompt", "prompt_labels", "prefix", "prefix_text", "p_tuning"])
def test_virtual_tokens_that_leave_no_room_for_the_text_are_refused(method: str, tiny: list[str]) -> None:
    assert grid.cells([*tiny, f"method={method}", "rank=32"], multirun=False)
    with pytest.raises(Misfit) as caught:
        grid.cells([*tiny, f"method={method}", "rank=33"], multirun=False)
    assert "rank=33 virtual tokens and protocol.max_length=32 are more than the 64 positions" in str(caught.value)
    assert "at most 32" in str(caught.value)


def test_hooks_that_steer_training_prevent_packing() -> None:
    class Prepares(Hooks):
        def prepare(self, model: nn.Module, batches: Any) -> None: ...

    class Steers(Hooks):
        def after_step(self, model: nn.Module, step: int) -> None: ...

    assert Hooks().alone is None
    assert Prepares().alone is None
    assert Steers().alone == "its hooks steer the model while it trains (after_step)"
