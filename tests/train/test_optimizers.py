"""Every optimizer of conf/optim learns and receives the settings of the training loop."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from bench.train.optim import make_optimizer, make_schedule

Run = Callable[..., subprocess.CompletedProcess[str]]
CONF = REPOSITORY / "conf" / "optim"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
RATES = {"sgd_momentum": 0.05, "adafactor": 0.1}  # the others: 0.01
EIGHT_BITS = ("adamw_8bit", "paged_adamw_8bit")

pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


class Model(nn.Module):
    """A linear classifier over a frozen matrix: its loss is convex in what is trained."""

    config = SimpleNamespace(model_type="bert")  # determines its head

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(64, 64)
        self.frozen.requires_grad_(requires_grad=False)
        self.lora_B = nn.Linear(64, 64, bias=False)  # 4,096 entries
        self.classifier = nn.Linear(64, 4)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(self.frozen(inputs) + self.lora_B(inputs))


def built(name: str, model: nn.Module, **given: Any) -> torch.optim.Optimizer:
    conf = OmegaConf.load(CONF / f"{name}.yaml")
    settings = {"lr": RATES.get(name, 0.01), "weight_decay": 0.01, "lr_ratio": {}} | given
    return make_optimizer(model, instantiate(conf.build), **settings)


def descend(name: str, model: nn.Module, steps: int) -> tuple[list[float], torch.optim.Optimizer]:
    torch.manual_seed(1)
    inputs, labels = torch.randn(32, 64), torch.arange(32) % 4
    optimizer = built(name, model)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses, optimizer


@pytest.mark.parametrize("name", NAMES)
def test_the_name_in_a_yaml_is_that_of_its_file(name: str) -> None:
    assert OmegaConf.load(CONF / f"{name}.yaml").name == name


@pytest.mark.parametrize("name", NAMES)
def test_five_steps_lower_a_loss(name: str) -> None:
    model = Model()
    model.lora_B.requires_grad_(requires_grad=False)  # the rest is convex
    losses, _ = descend(name, model, steps=6)
    assert losses == sorted(losses, reverse=True)
    assert losses[5] < 0.95 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_tensor_moves_and_no_other(name: str) -> None:
    model, before = Model(), Model().state_dict()
    descend(name, model, steps=3)
    moved = {part for part, tensor in model.state_dict().items() if not torch.equal(tensor, before[part])}
    assert moved == {part for part, tensor in model.named_parameters() if tensor.requires_grad}


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_and_rate_ratios_reach_every_optimizer(name: str) -> None:
    model = Model()
    optimizer = built(name, model, lr=1e-3, weight_decay=0.1, lr_ratio={"lora_B": 20.0}, head_lr=5e-4)
    settings = {
        id(tensor): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for tensor in group["params"]
    }
    assert {part: settings[id(tensor)] for part, tensor in model.named_parameters() if tensor.requires_grad} == {
        "lora_B.weight": (0.02, 0.1),
        "classifier.weight": (0.0005, 0.1),
        "classifier.bias": (0.0005, 0.0),
    }


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_shrinks_a_matrix_whose_gradient_is_zero(name: str) -> None:
    means = []
    for weight_decay in (0.0, 0.1):
        model = Model()
        nn.init.ones_(model.lora_B.weight)
        optimizer = built(name, model, lr=0.5, weight_decay=weight_decay)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        optimizer.step()
        means.append(model.lora_B.weight.detach().mean().item())
    assert means[1] < means[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_schedule_scales_the_rate_of_every_optimizer(name: str) -> None:
    model = Model()
    optimizer = built(name, model, lr=1.0, head_lr=0.5)
    schedule = make_schedule(optimizer, steps=4, warmup=0.0)
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        model(torch.ones(1, 64)).sum().backward()
        optimizer.step()
        schedule.step()
    assert [pair[0] for pair in rates] == [1.0, 0.75, 0.5, 0.25]
    assert all(rate == 0.5 * pair[0] for pair in rates for rate in pair[1:])


@pytest.mark.parametrize("name", NAMES)
def test_only_the_8_bit_optimizers_keep_a_byte_per_entry_and_only_of_large_tensors(name: str) -> None:
    model = Model()
    _, optimizer = descend(name, model, steps=1)
    bits = {}
    for part, tensor in model.named_parameters():
        if tensor.requires_grad:
            kept = [value for value in optimizer.state[tensor].values() if isinstance(value, Tensor)]
            bits[part] = {value.dtype for value in kept if value.numel() == tensor.numel()}
    assert model.lora_B.weight.numel() == 4096
    small = {kinds for part in ("classifier.weight", "classifier.bias") for kinds in bits[part]}
    assert small <= {torch.float32}
    assert bits["lora_B.weight"] <= ({torch.uint8} if name in EIGHT_BITS else {torch.float32})
    assert bits["lora_B.weight"] or name == "adafactor"  # which keeps sums over rows and columns


def test_a_cell_with_another_optimizer_is_recorded_with_its_name(inline: Run, tiny: list[str], tmp_path: Path) -> None:
    done = inline(*tiny, "method=lora", "optim=lion", "lrs=[1e-4]", "seeds=[0]")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").rglob("lr*.json")
    record = json.loads(path.read_text())
    assert record["outcome"] == "ok"
    assert record["cell"]["title"] == "lora r=4 qv lion"
    assert record["cell"]["optim"] == "lion"
    assert record["identity"]["method"]["optim"]["name"] == "lion"
