"""One optimizer, one schedule and one step for every method."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import REPOSITORY
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_trials import CPU, FP32
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.config import compose as grid
from bench.hooks import Hooks
from bench.runner.build import build
from bench.train.batches import Batch
from bench.train.device import Compute
from bench.train.optim import make_optimizer, make_schedule
from bench.train.step import Stepper

CONF = REPOSITORY / "conf" / "optim"
ADAMW = instantiate(OmegaConf.load(CONF / "adamw.yaml").build)  # the others: test_optimizers.py


class Scorer(nn.Module):
    """A classifier with a matrix, biases and a layer norm, called as a transformer is."""

    config = SimpleNamespace(model_type="bert")  # determines its head

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(10, 8)
        self.norm = nn.LayerNorm(8)
        self.classifier = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None) -> SimpleNamespace:
        assert attention_mask is None
        return SimpleNamespace(logits=self.classifier(self.norm(self.words(input_ids)).mean(1)))


@pytest.fixture
def model() -> Scorer:
    return Scorer()


BATCH = Batch(torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), None, torch.tensor([0, 1, 1]), 9)


def optimizer_of(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    lr_ratio: Mapping[str, float] | None = None,
    head_lr: float | None = None,
) -> Optimizer:
    return make_optimizer(model, ADAMW, lr=lr, weight_decay=weight_decay, lr_ratio=lr_ratio or {}, head_lr=head_lr)


def stepper(
    model: nn.Module,
    optimizer: Optimizer,
    hooks: Hooks | None = None,
    *,
    clip: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Stepper:
    return Stepper(model, optimizer, hooks or Hooks(), clip=clip, compute=Compute(CPU, dtype))


def gradients(model: Scorer) -> tuple[Tensor, list[Tensor]]:
    loss = nn.functional.cross_entropy(model(BATCH.input_ids, None).logits, BATCH.labels)
    return loss.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


def norm_of(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm()


def test_matrices_decay_and_biases_and_layer_norms_do_not(model: Scorer) -> None:
    groups = optimizer_of(model, 1e-3, 0.1).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert {name: decays[id(parameter)] for name, parameter in model.named_parameters()} == {
        "words.weight": 0.1,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "classifier.weight": 0.1,
        "classifier.bias": 0.0,
    }


def test_every_parameter_is_in_exactly_one_group(model: Scorer) -> None:
    groups = optimizer_of(model, 1e-3, 0.1).param_groups
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert {group["lr"] for group in groups} == {1e-3}


def test_a_method_that_trains_vectors_alone_has_no_decay(model: Scorer) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in {"norm.weight", "classifier.bias"}
    (group,) = optimizer_of(model, 1e-3, 0.1).param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(model.norm.weight), id(model.classifier.bias)]
    assert group["weight_decay"] == 0.0


def test_decay_shrinks_a_matrix_and_leaves_a_vector() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    holder: nn.Module = Scorer()
    holder.matrix, holder.vector = matrix, vector
    optimizer = optimizer_of(holder, 0.5, 0.1)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(vector.detach(), torch.ones(2))


def test_the_factors_of_ia3_do_not_decay(tiny_bert: Path) -> None:
    cell = grid.cells([f"model.name={tiny_bert}", "method=ia3", "protocol.max_length=32"], multirun=False)[0]
    model = build(cell, seed=0, compute=FP32)
    groups = optimizer_of(model, 1e-3, 0.1).param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in decayed} == {
        "base_model.model.classifier.modules_to_save.default.weight",
        "base_model.model.bert.pooler.modules_to_save.default.dense.weight",  # the checkpoint has none: it is new
    }


def test_only_what_requires_a_gradient_is_trained(model: Scorer) -> None:
    model.words.requires_grad_(requires_grad=False)
    step = stepper(model, optimizer_of(model, 1e-3, 0.1))
    assert {id(parameter) for parameter in step.head} == {id(parameter) for parameter in model.classifier.parameters()}
    assert {id(parameter) for parameter in step.body} == {id(parameter) for parameter in model.norm.parameters()}
    assert len(step.head) == len(step.body) == 2


def rates(model: Scorer, steps: int, warmup: float) -> list[float]:
    optimizer = optimizer_of(model, 0.4, 0.0)
    schedule = make_schedule(optimizer, steps, warmup)
    by_step = []
    for _ in range(steps + 1):
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        by_step.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return by_step


def test_the_rate_rises_from_zero_to_its_peak_and_falls_to_zero(model: Scorer) -> None:
    by_step = rates(model, steps=100, warmup=0.06)
    assert by_step[0] == 0
    assert by_step[3] == pytest.approx(0.2)
    assert by_step[6] == max(by_step) == pytest.approx(0.4)
    assert by_step[53] == pytest.approx(0.2)
    assert by_step[99] == pytest.approx(0.4 / 94)
    assert by_step[100] == 0


def test_without_warm_up_the_first_step_has_the_full_rate(model: Scorer) -> None:
    assert rates(model, steps=4, warmup=0.0) == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_a_step_returns_the_norm_before_clipping_and_applies_the_clipped_gradient(model: Scorer, clip: float) -> None:
    optimizer, parameters, applied = optimizer_of(model, 0.0, 0.0), list(model.parameters()), []
    optimizer.register_step_pre_hook(lambda *_: applied.extend(parameter.grad.clone() for parameter in parameters))
    loss, expected = gradients(model)
    measured = stepper(model, optimizer, clip=clip)(BATCH)
    torch.testing.assert_close(measured.loss, loss)
    torch.testing.assert_close(measured.norm, norm_of(expected))
    assert 1e-3 < measured.norm < 1e3
    torch.testing.assert_close(norm_of(applied), measured.norm.clamp(max=clip), rtol=1e-2, atol=0)


def test_a_step_returns_the_norm_below_the_head_before_clipping(model: Scorer) -> None:
    expected = norm_of(gradients(model)[1][:3])  # words and norm; the classifier is the head
    measured = stepper(model, optimizer_of(model, 0.0, 0.0), clip=1e-3)(BATCH)
    assert measured.body_norm is not None
    torch.testing.assert_close(measured.body_norm, expected)
    assert measured.body_norm < measured.norm


@pytest.mark.parametrize("part", ["head", "body"])
def test_the_norm_below_the_head_is_none_exactly_where_nothing_is_trained_there(part: str, model: Scorer) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier") == (part == "head")
    measured = stepper(model, optimizer_of(model, 0.0, 0.0))(BATCH)
    assert (measured.body_norm is None) == (part == "head")
    assert part == "head" or torch.equal(measured.body_norm, measured.norm)


def test_a_step_moves_what_is_trained_and_leaves_the_rest(model: Scorer) -> None:
    model.words.requires_grad_(requires_grad=False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    stepper(model, optimizer_of(model, 0.1, 0.0))(BATCH)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}


def test_gradients_do_not_add_up_over_steps(model: Scorer) -> None:
    step = stepper(model, optimizer_of(model, 0.0, 0.0))
    norms = [step(BATCH).norm for _ in range(2)]
    assert torch.equal(norms[0], norms[1])
    assert all(parameter.grad is None for parameter in model.parameters())


class Pull(Hooks):
    """Hooks that pull the embedding to zero and record what they see after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, Tensor]] = []

    def penalty(self, model: nn.Module) -> Tensor:
        return 3 * model.words.weight.square().sum()

    def after_step(self, model: nn.Module, step: int) -> None:
        self.seen.append((step, model.words.weight.grad is not None, model.words.weight.detach().clone()))


def test_a_step_returns_tensors_without_a_graph(model: Scorer) -> None:
    measured = stepper(model, optimizer_of(model, 0.1, 0.0), Pull())(BATCH)
    for value in (measured.loss, measured.penalty, measured.norm, measured.body_norm):
        assert value is not None
        assert value.shape == ()
        assert not value.requires_grad


def test_a_penalty_is_trained_and_reported_apart_from_the_loss(model: Scorer) -> None:
    loss, (words, *rest) = gradients(model)
    start = model.words.weight.detach().clone()
    measured = stepper(model, optimizer_of(model, 0.0, 0.0), Pull(), clip=1e9)(BATCH)
    torch.testing.assert_close(measured.loss, loss)
    torch.testing.assert_close(measured.penalty, 3 * start.square().sum())
    torch.testing.assert_close(measured.norm, norm_of([words + 6 * start, *rest]))


def test_a_step_of_a_method_without_a_penalty_reports_none(model: Scorer) -> None:
    assert stepper(model, optimizer_of(model, 0.1, 0.0))(BATCH).penalty is None


def test_a_method_is_called_after_each_update_while_gradients_are_kept(model: Scorer) -> None:
    hooks, start = Pull(), model.words.weight.detach().clone()
    step = stepper(model, optimizer_of(model, 0.1, 0.0), hooks)
    for _ in range(3):
        step(BATCH)
    assert [number for number, _, _ in hooks.seen] == [1, 2, 3]
    assert all(alive for _, alive, _ in hooks.seen)
    assert not torch.equal(hooks.seen[0][2], start)
    assert torch.equal(hooks.seen[2][2], model.words.weight)


def test_the_loss_falls_over_steps_in_fp32_and_bf16() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = Scorer()
        step = stepper(model, optimizer_of(model, 0.05, 0.0), dtype=dtype)
        losses = [step(BATCH).loss for _ in range(20)]
        assert losses[-1] < losses[0] / 5
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert {loss.dtype for loss in losses} == {torch.float32}


def rates_of(model: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    by_id = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters()}


def test_a_ratio_multiplies_the_rate_of_what_it_names_and_of_nothing_else(model: Scorer) -> None:
    by_name = rates_of(model, optimizer_of(model, 0.5, 0.1, {"norm": 4.0, "words.w": 0.5}))
    assert by_name == {
        "words.weight": 0.25, "norm.weight": 2.0, "norm.bias": 2.0, "classifier.weight": 0.5, "classifier.bias": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("lr", [5e-5, 1e-3, 0.5])
def test_the_head_has_the_same_rate_whatever_the_bodys_is(lr: float, model: Scorer) -> None:
    model.new_modules = ("norm",)  # as a checkpoint's missing pooler
    by_name = rates_of(model, optimizer_of(model, lr, 0.1, {"classifier": 4.0}, head_lr=1e-3))
    assert by_name == {name: lr if name == "words.weight" else 1e-3 for name in by_name}


def test_the_head_has_the_trials_rate_if_it_has_none_of_its_own(model: Scorer) -> None:
    by_name = rates_of(model, optimizer_of(model, 0.5, 0.1, {"words": 4.0}))
    assert by_name == {name: 2.0 if name == "words.weight" else 0.5 for name in by_name}


def test_warm_up_and_decay_are_the_same_for_head_and_body(model: Scorer) -> None:
    optimizer = optimizer_of(model, 0.4, 0.0, head_lr=0.01)
    schedule = make_schedule(optimizer, 100, 0.1)
    for _ in range(100):
        by_name = rates_of(model, optimizer)
        assert by_name["classifier.bias"] == pytest.approx(by_name["words.weight"] / 40)
        optimizer.step()
        schedule.step()


def test_rates_do_not_change_the_weight_decay(model: Scorer) -> None:
    kinds: list[tuple[dict[str, float], float | None]] = [({}, None), ({"norm": 4.0}, 0.1)]
    uniform, changed = (optimizer_of(model, 0.5, 0.1, ratio, head_lr) for ratio, head_lr in kinds)
    decays = [
        {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in (uniform, changed)
    ]
    assert decays[0] == decays[1]


RECORDED = [({"words": 9.0}, None), ({"words": 0.1, "norm": 0.1}, None), ({}, 9.0), ({"words": 9.0}, 0.1)]


@pytest.mark.parametrize(("ratio", "head_lr"), RECORDED)
def test_the_recorded_rate_is_the_trials(ratio: dict[str, float], head_lr: float | None, model: Scorer) -> None:
    optimizer = optimizer_of(model, 0.5, 0.1, ratio, head_lr)
    schedule = make_schedule(optimizer, 4, 0.0)
    assert schedule.get_last_lr()[0] == optimizer.param_groups[0]["lr"] == 0.5


def test_the_recorded_rate_is_never_the_heads(model: Scorer) -> None:
    model.new_modules = ("words",)  # before the body, in the order of the names
    optimizer = optimizer_of(model, 0.5, 0.1, {"norm": 0.5}, head_lr=0.01)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_the_schedule_keeps_the_ratios(model: Scorer) -> None:
    optimizer = optimizer_of(model, 0.4, 0.0, {"norm": 4.0})
    schedule = make_schedule(optimizer, 4, 0.0)
    for share in (1.0, 0.75, 0.5, 0.25, 0.0):
        by_name = rates_of(model, optimizer)
        assert (by_name["words.weight"], by_name["norm.bias"]) == pytest.approx((0.4 * share, 1.6 * share))
        optimizer.step()
        schedule.step()
