"""One optimizer, one schedule and one step for every method."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench import grid, worker
from bench.train.batches import Batch
from bench.train.optim import make_optimizer, make_schedule, step, trainable


class Scorer(nn.Module):
    """A classifier with a matrix, biases and a layer norm, called as a transformer is."""

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


def gradients(model: Scorer) -> tuple[Tensor, list[Tensor]]:
    loss = nn.functional.cross_entropy(model(BATCH.input_ids, None).logits, BATCH.labels)
    return loss.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


def norm_of(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm()


def test_matrices_decay_and_biases_and_layer_norms_do_not(model: Scorer) -> None:
    groups = make_optimizer(model, 1e-3, 0.1).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert {name: decays[id(parameter)] for name, parameter in model.named_parameters()} == {
        "words.weight": 0.1,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "classifier.weight": 0.1,
        "classifier.bias": 0.0,
    }


def test_every_parameter_is_in_exactly_one_group(model: Scorer) -> None:
    groups = make_optimizer(model, 1e-3, 0.1).param_groups
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    assert {group["lr"] for group in groups} == {1e-3}


def test_a_method_that_trains_vectors_alone_has_no_decay(model: Scorer) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in {"norm.weight", "classifier.bias"}
    (group,) = make_optimizer(model, 1e-3, 0.1).param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(model.norm.weight), id(model.classifier.bias)]
    assert group["weight_decay"] == 0.0


def test_decay_shrinks_a_matrix_and_leaves_a_vector() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    holder = nn.ParameterDict({"matrix": matrix, "vector": vector})
    optimizer = make_optimizer(holder, 0.5, 0.1)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(vector.detach(), torch.ones(2))


def test_the_factors_of_ia3_start_at_one_and_are_not_pulled_to_zero(tiny_bert: Path) -> None:
    cell = grid.cells([f"model.name={tiny_bert}", "method=ia3", "protocol.max_length=32"], multirun=False)[0]
    model = worker.build(cell, seed=0, device=torch.device("cpu"))
    groups = make_optimizer(model, 1e-3, 0.1).param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in decayed} == {
        "base_model.model.classifier.modules_to_save.default.weight"
    }


def test_only_what_requires_a_gradient_is_trained(model: Scorer) -> None:
    model.words.requires_grad_(requires_grad=False)
    assert [id(parameter) for parameter in trainable(model)] == [
        id(parameter) for name, parameter in model.named_parameters() if name != "words.weight"
    ]


def rates(model: Scorer, steps: int, warmup: float) -> list[float]:
    optimizer = make_optimizer(model, 0.4, 0.0)
    schedule = make_schedule(optimizer, steps, warmup)
    found = []
    for _ in range(steps + 1):
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_rises_from_zero_to_its_peak_and_falls_to_zero(model: Scorer) -> None:
    found = rates(model, steps=100, warmup=0.06)
    assert found[0] == 0
    assert found[3] == pytest.approx(0.2)
    assert found[6] == max(found) == pytest.approx(0.4)
    assert found[53] == pytest.approx(0.2)
    assert found[99] == pytest.approx(0.4 / 94)
    assert found[100] == 0


def test_without_warm_up_the_first_step_has_the_full_rate(model: Scorer) -> None:
    assert rates(model, steps=4, warmup=0.0) == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_a_step_gives_the_norm_before_clipping_and_applies_the_clipped_gradient(model: Scorer, clip: float) -> None:
    optimizer, parameters, applied = make_optimizer(model, 0.0, 0.0), list(model.parameters()), []
    optimizer.register_step_pre_hook(lambda *_: applied.extend(parameter.grad.clone() for parameter in parameters))
    loss, expected = gradients(model)
    found, norm = step(model, BATCH, parameters, optimizer, clip, torch.float32)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(norm, norm_of(expected))
    assert 1e-3 < norm < 1e3
    torch.testing.assert_close(norm_of(applied), norm.clamp(max=clip), rtol=1e-2, atol=0)


def test_a_step_moves_what_is_trained_and_leaves_the_rest(model: Scorer) -> None:
    model.words.requires_grad_(requires_grad=False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    parameters = trainable(model)
    step(model, BATCH, parameters, make_optimizer(model, 0.1, 0.0), 1.0, torch.float32)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"norm.weight", "norm.bias", "classifier.weight", "classifier.bias"}


def test_steps_do_not_add_up_their_gradients(model: Scorer) -> None:
    parameters = list(model.parameters())
    optimizer = make_optimizer(model, 0.0, 0.0)
    norms = [step(model, BATCH, parameters, optimizer, 1.0, torch.float32)[1] for _ in range(2)]
    assert torch.equal(norms[0], norms[1])
    assert all(parameter.grad is None for parameter in parameters)


def test_a_step_gives_tensors_that_hold_no_graph(model: Scorer) -> None:
    parameters = list(model.parameters())
    for value in step(model, BATCH, parameters, make_optimizer(model, 0.1, 0.0), 1.0, torch.float32):
        assert value.shape == ()
        assert not value.requires_grad


def test_the_loss_falls_over_steps_in_either_arithmetic() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = Scorer()
        parameters = list(model.parameters())
        optimizer = make_optimizer(model, 0.05, 0.0)
        losses = [step(model, BATCH, parameters, optimizer, 1.0, dtype)[0] for _ in range(20)]
        assert losses[-1] < losses[0] / 5
        assert {parameter.dtype for parameter in parameters} == {torch.float32}
        assert {loss.dtype for loss in losses} == {torch.float32}
