"""Diff pruning: gates with a penalty, a projection that meets its budget exactly, and a small adapter."""

import copy
from collections import Counter

import pytest
import torch
from conftest import REPOSITORY
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load, save
from small_trials import SIZES
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig

from bench.hooks import Hooks
from bench.methods.diff_pruning import Diff, PruningSchedule, attach, merged, project, restore, state
from bench.models.structure import is_head
from bench.train.guard import Guard

CONF = REPOSITORY / "conf" / "method" / "diff_pruning.yaml"
BUDGET = 0.01
MODELS = pytest.mark.parametrize("kind", ["bert", "llama"])


def tiny(kind: str = "bert") -> nn.Module:
    configs = {"bert": BertConfig(**SIZES, hidden_dropout_prob=0.0), "llama": LlamaConfig(**SIZES)}
    configs["bert"].attention_probs_dropout_prob = 0.0
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(configs[kind]).eval()


def attached(kind: str = "bert", budget: float = BUDGET) -> nn.Module:
    return attach(tiny(kind), budget=budget, alpha=5.0, stretch=(-1.5, 1.5))


def train(model: nn.Module, hooks: Hooks, steps: int, lr: float = 1e-2) -> list[float]:
    """Train as the loop does, on one batch and with weight decay on everything; return the cross-entropies."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.1)
    torch.manual_seed(1)
    hooks.begin(model, steps)
    model.train()
    losses = []
    for step in range(1, steps + 1):
        loss = cross_entropy(logits(model), torch.tensor([0, 1, 0, 1]))
        (loss + hooks.penalty(model)).backward()
        optimizer.step()
        hooks.after_step(model, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def searched(kind: str = "bert") -> nn.Module:
    """Return a model whose gates and changes have moved and that is not yet projected."""
    model = attached(kind)
    for diff in diffs(model):
        nn.init.normal_(diff.w, std=0.1)
        nn.init.normal_(diff.alpha, std=2)
    return model


def logits(model: nn.Module) -> Tensor:
    return model(input_ids=torch.arange(1, 49).view(4, 12)).logits


def diffs(model: nn.Module) -> list[Diff]:
    return [module for module in model.modules() if isinstance(module, Diff)]


def backbone(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if not is_head(name, model)}


def count(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


@torch.no_grad()
def changes(model: nn.Module) -> Tensor:
    """Return everything that is added to the backbone's weights, as a vector."""
    return torch.cat([diff(torch.zeros_like(diff.w)).flatten() for diff in diffs(model)])


@MODELS
@torch.no_grad()
def test_training_starts_exactly_from_the_pretrained_model(kind: str) -> None:
    assert torch.equal(logits(attached(kind)), logits(tiny(kind)))
    assert torch.equal(logits(attached(kind).train()), logits(tiny(kind)))


@MODELS
def test_two_numbers_per_weight_and_one_per_tensor_are_trained_besides_the_head(kind: str) -> None:
    base, model = tiny(kind), attached(kind)
    weights = list(backbone(base).values())
    head = count([tensor for name, tensor in base.named_parameters() if is_head(name, base)])
    trained = count([tensor for tensor in model.parameters() if tensor.requires_grad])
    assert trained == 2 * count(weights) + len(weights) + head


def test_a_head_that_the_checkpoint_lacked_is_trained_and_not_pruned() -> None:
    base = tiny()
    base.new_modules = ("pooler",)
    model = attach(base, budget=BUDGET, alpha=5.0, stretch=(-1.5, 1.5))
    assert "bert.pooler.dense.weight" in state(model)
    assert dict(model.named_parameters())["bert.pooler.dense.weight"].requires_grad


@MODELS
@torch.no_grad()
def test_every_tensor_is_sampled_once_per_forward(kind: str) -> None:
    model, calls = attached(kind).train(), Counter()
    for diff in diffs(model):
        diff.register_forward_hook(lambda module, *_: calls.update([module]))
    logits(model)
    assert calls == Counter(diffs(model))


@torch.no_grad()
def test_gates_are_random_in_training_only() -> None:
    model = searched()
    assert torch.equal(changes(model), changes(model))
    assert not torch.equal(changes(model.train()), changes(model))


@torch.no_grad()
def test_a_weights_gate_is_the_product_of_its_own_gate_and_its_tensors() -> None:
    diff = Diff(torch.zeros(3), BUDGET, alpha=0.0, low=-0.1, high=1.1)
    assert diff.gates(sample=False).tolist() == pytest.approx([0.25] * 3)
    diff.alpha.copy_(torch.tensor([-9.0, 0.0, 9.0]))
    assert diff.gates(sample=False).tolist() == pytest.approx([0.0, 0.25, 0.5])
    diff.alpha_group.fill_(-9.0)
    assert not diff.gates(sample=False).any()


@torch.no_grad()
def test_the_expected_count_of_open_gates_agrees_with_sampling() -> None:
    torch.manual_seed(0)
    diff = Diff(torch.zeros(10, 20), BUDGET, alpha=0.5, low=-0.1, high=1.1)
    nn.init.normal_(diff.alpha, std=2)
    gates = (diff.alpha, diff.alpha_group)
    counts = [sum((diff._gate(alpha, sample=True) > 0).sum() for alpha in gates) for _ in range(1000)]
    assert diff.expected_open() == pytest.approx(torch.stack(counts).double().mean().item(), rel=0.01)


def test_the_penalty_is_the_weighted_expectation_and_ends_with_the_projection() -> None:
    model, schedule = attached(), PruningSchedule(project_at=0.5, weight=1e-3)
    gates = count(list(backbone(tiny()).values())) + len(backbone(tiny()))
    open_share = 1 / (1 + torch.tensor(-5.0).exp().item())  # the stretch is symmetric, so nothing is shifted
    assert schedule.penalty(model).item() == pytest.approx(1e-3 * gates * open_share, rel=1e-5)
    schedule.penalty(model).backward()
    assert all((diff.alpha.grad > 0).all() and (diff.alpha_group.grad > 0).all() for diff in diffs(model))
    project(model)
    assert torch.equal(schedule.penalty(model), torch.tensor(0.0))


@MODELS
def test_the_projection_keeps_the_largest_changes_and_exactly_the_budget(kind: str) -> None:
    model = searched(kind)
    before = changes(model)
    project(model)
    after = changes(model)
    kept = torch.cat([diff.mask.flatten() for diff in diffs(model)])
    assert kept.sum() == after.count_nonzero() == round(BUDGET * count(list(backbone(tiny(kind)).values())))
    assert torch.equal(after, before * kept)
    assert before[kept].abs().min() >= before[~kept].abs().max()


def test_the_budget_is_met_where_most_changes_are_zero() -> None:
    model = attached(budget=0.5)
    project(model)
    assert sum(diff.mask.sum() for diff in diffs(model)) == round(0.5 * count(list(backbone(tiny()).values())))


@MODELS
def test_after_the_projection_only_kept_weights_move(kind: str) -> None:
    model, at_projection = attached(kind), {}

    class Spy(PruningSchedule):
        def after_step(self, model: nn.Module, step: int) -> None:
            super().after_step(model, step)
            if step == self.last_search:
                at_projection["changes"] = changes(model)
            elif step > self.last_search:
                for diff in diffs(model):
                    assert diff.w.grad is not None
                    assert not diff.w.grad[~diff.mask].any()
                    assert diff.alpha.grad is None

    train(model, Spy(project_at=0.5, weight=1e-5), steps=8)
    kept = torch.cat([diff.mask.flatten() for diff in diffs(model)])
    assert not changes(model)[~kept].any()
    assert (changes(model) != at_projection["changes"])[kept].all()
    # They would move without the mask, because the optimizer's momentum continues.
    assert torch.cat([diff.w.flatten() for diff in diffs(model)])[~kept].any()


@MODELS
def test_the_pretrained_weights_stay_bit_identical(kind: str) -> None:
    model = attached(kind)
    guard = Guard(model)
    train(model, PruningSchedule(project_at=0.5, weight=1e-5), steps=6)
    guard.check(model)
    now = {name: tensor for name, tensor in backbone(model).items() if name.endswith(".original")}
    assert len(now) == len(backbone(tiny(kind)))
    for tensor, pretrained in zip(now.values(), backbone(tiny(kind)).values(), strict=True):
        assert torch.equal(tensor, pretrained)


@MODELS
def test_the_loss_falls_before_the_projection_and_after_it(kind: str) -> None:
    losses = train(attached(kind), PruningSchedule(project_at=0.5, weight=1e-7), steps=16, lr=2e-3)
    assert losses[7] < 0.8 * losses[0]
    assert losses[15] < losses[8] < losses[0]


def test_the_penalty_closes_gates_that_nothing_needs() -> None:
    model, schedule = attached(), PruningSchedule(project_at=1, weight=1.0)
    before = schedule.penalty(model)
    optimizer = torch.optim.Adam([diff.alpha for diff in diffs(model)], lr=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        schedule.penalty(model).backward()
        optimizer.step()
    assert schedule.penalty(model) < 0.1 * before
    assert not torch.cat([diff.gates(sample=False).flatten() for diff in diffs(model)]).any()


@MODELS
@torch.no_grad()
def test_a_restored_adapter_predicts_the_same_on_a_fresh_model(kind: str) -> None:
    with torch.enable_grad():
        model = attached(kind)
        train(model, PruningSchedule(project_at=0.5, weight=1e-5), steps=6)
    other = attached(kind)
    restore(other, state(model))
    assert not torch.equal(logits(other), logits(tiny(kind)))
    assert torch.equal(logits(other), logits(model))
    assert state(other).keys() == state(model).keys()


def test_an_adapter_takes_eight_bytes_per_kept_weight_besides_the_head_and_the_names() -> None:
    model = attached()
    project(model)
    saved = state(model)
    sparse = {name: tensor for name, tensor in saved.items() if name.endswith((".indices", ".values"))}
    assert sum(tensor.nbytes for tensor in sparse.values()) == 8 * round(
        BUDGET * count(list(backbone(tiny()).values()))
    )
    assert saved.keys() - sparse.keys() == {"classifier.weight", "classifier.bias"}
    assert load(save(saved)).keys() == saved.keys()


def test_the_state_is_the_same_before_and_after_the_projection_and_reading_it_changes_nothing() -> None:
    model = searched()
    before = copy.deepcopy(model.state_dict())
    early = state(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    project(model)
    late = state(model)
    assert early.keys() == late.keys()
    assert all(torch.equal(early[name], late[name]) for name in late)


def test_a_state_that_does_not_fit_is_refused() -> None:
    saved = state(attached())
    name = "bert.embeddings.word_embeddings.weight"
    for wrong in (
        {key: tensor for key, tensor in saved.items() if key != "classifier.bias"},
        saved | {"classifier.bias": torch.zeros(3)},
        saved | {f"{name}.values": torch.zeros(1_000)},
        saved | {f"{name}.indices": torch.tensor([60 * 32]), f"{name}.values": torch.zeros(1)},
        saved | {f"{name}.indices": torch.tensor([-1]), f"{name}.values": torch.zeros(1)},
    ):
        with pytest.raises(ValueError, match="fit"):
            restore(attached(), wrong)


@MODELS
@pytest.mark.parametrize("projected", [False, True])
@torch.no_grad()
def test_merging_gives_an_unwrapped_model_with_the_same_outputs(kind: str, *, projected: bool) -> None:
    model = searched(kind)
    if projected:
        project(model)
    expected = logits(model)
    unwrapped = merged(model.train()).eval()
    torch.testing.assert_close(logits(unwrapped), expected, rtol=0, atol=1e-6)
    assert unwrapped.state_dict().keys() == tiny(kind).state_dict().keys()
    assert [type(module) for module in unwrapped.modules()] == [type(module) for module in tiny(kind).modules()]
    assert not torch.equal(expected, logits(tiny(kind)))


@MODELS
def test_attaching_works_on_a_model_without_data(kind: str) -> None:
    with torch.device("meta"):
        model = attach(tiny(kind), budget=BUDGET, alpha=5.0, stretch=(-1.5, 1.5))
    assert all(tensor.is_meta for tensor in model.parameters())
    assert {name: tensor.shape for name, tensor in model.named_parameters()} == {
        name: tensor.shape for name, tensor in attached(kind).named_parameters()
    }


def test_only_a_projected_model_is_final() -> None:
    schedule = PruningSchedule(project_at=0.5, weight=0.0)
    schedule.begin(attached(), steps=10)
    assert [schedule.is_final(step) for step in (0, 4, 5, 10)] == [False, False, True, True]
    model = attached()
    train(model, schedule, steps=1)  # so short that half of it rounds to zero steps
    assert schedule.is_final(1)
    assert all(diff.mask is not None for diff in diffs(model))


def test_the_published_settings_attach_and_schedule() -> None:
    conf = OmegaConf.to_container(OmegaConf.load(CONF))
    assert len(diffs(instantiate(conf["attach"])(tiny()))) == len(backbone(tiny()))
    assert isinstance(instantiate(conf["hooks"]), PruningSchedule)
    names = [name for name, _ in attached().named_parameters()]
    ratio = next(iter(conf["lr_ratio"]))
    assert [name for name in names if ratio in name] == [name for name in names if ".alpha" in name] != []


def test_invalid_settings_are_refused() -> None:
    for budget in (0, 1.5):
        with pytest.raises(ValueError, match="budget"):
            attached(budget=budget)
    with pytest.raises(ValueError, match="stretch"):
        attach(tiny(), budget=0.1, alpha=5.0, stretch=(0.0, 1.0))
    for project_at in (0, 1.1):
        with pytest.raises(ValueError, match="project_at"):
            PruningSchedule(project_at=project_at, weight=1e-7)


def test_merging_a_copy_leaves_the_original_unchanged() -> None:
    model = searched().eval()
    before = logits(model)
    unwrapped = merged(copy.deepcopy(model)).eval()
    assert torch.equal(logits(model), before)
    torch.testing.assert_close(logits(unwrapped), before, rtol=0, atol=1e-6)
