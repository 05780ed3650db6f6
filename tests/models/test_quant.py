"""A base in 4 or 8 bits trains after an evaluation, is stored as the config says, and its adapters reload."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY, axes
from hydra.utils import instantiate
from omegaconf import OmegaConf
from peft import PeftModel
from small_trials import CPU, DATA, FP32, small
from torch import Tensor, nn

from bench.cells.compatibility import Misfit
from bench.config import compose as grid
from bench.config.register import register
from bench.config.schema import ModelConf
from bench.hooks import Hooks
from bench.measure.parameters import count
from bench.methods.checkpoints import save_adapter
from bench.models.load import load_model
from bench.models.quant import SWITCH, Quant
from bench.models.source import find_model
from bench.models.structure import heads, is_head
from bench.models.targets import resolve
from bench.runner.build import load_backbone
from bench.train.batches import collate
from bench.train.device import Compute
from bench.train.evaluate import arguments, forward, predict

CONF = REPOSITORY / "conf" / "method"
LEAVES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONF.glob("*.yaml"))}
LOW_RANK = [
    name for name, leaf in LEAVES.items() if leaf.get("family") == "low rank" and "nf4" in leaf.get("quant", [])
]
NF4 = Quant("nf4", double=False, compute=torch.float32)
QUANTS = [NF4, Quant("fp4", double=False, compute=torch.float32), Quant("int8", double=False, compute=torch.float32)]
BATCH = collate(DATA.train, torch.arange(16))

quants = pytest.mark.parametrize("quant", QUANTS, ids=lambda quant: quant.name)
kinds = pytest.mark.parametrize("kind", ["bert", "llama"])


def attached(name: str, kind: str, quant: Quant, width: int = 32) -> tuple[nn.Module, dict[str, Any], Hooks]:
    """Attach the method of a yaml to a quantised model; return it, the resolved `attach` node and the hooks."""
    register()
    conf: Any = OmegaConf.to_container(OmegaConf.merge(axes(4), OmegaConf.load(CONF / f"{name}.yaml")), resolve=True)
    torch.manual_seed(1)
    model = instantiate(conf["attach"])(small(kind, quant, width), target=resolve(conf["target"], kind))
    return model, conf["attach"], instantiate(conf["hooks"]) if conf.get("hooks") else Hooks()


def update(model: nn.Module) -> dict[str, Tensor]:
    """Take a step; return the gradients of what is trained below the head."""
    model.train()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    nn.functional.cross_entropy(forward(model, BATCH), BATCH.labels).backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in trained.items()
        if parameter.grad is not None and not is_head(name, model)
    }
    optimizer.step()
    optimizer.zero_grad()
    return gradients


def second_gradients(kind: str, quant: Quant, *, evaluated: bool, switch: bool = False) -> dict[str, Tensor]:
    """Take a step, evaluate or not, take a step. switch: undo load_model's fix for bitsandbytes' repacking."""
    model, _, _ = attached("lora", kind, quant, width=64)  # layers narrower than a block are not repacked
    for module in model.modules():
        if hasattr(module, SWITCH):
            assert getattr(module, SWITCH) is False
            setattr(module, SWITCH, switch)
    update(model)
    if evaluated:
        predict(model, DATA.select, 32, FP32)
    return update(model)


@kinds
@pytest.mark.parametrize(
    "quant", [*QUANTS, Quant("nf4", double=True, compute=torch.bfloat16)], ids=["nf4", "fp4", "int8", "nf4+double bf16"]
)
def test_gradients_after_an_evaluation_equal_those_of_a_run_without_one(kind: str, quant: Quant) -> None:
    gradients, expected = (second_gradients(kind, quant, evaluated=evaluated) for evaluated in (True, False))
    assert len(gradients) == 8
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient.any(), name
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"), reason="the fault needs a CPU with AVX512_BF16"
)
@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit. an autograd kernel was not registered")
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_without_the_fix_an_evaluation_zeroes_all_gradients(compute: torch.dtype) -> None:
    """A Llama loses its gradients silently; a BERT's biases make it an error in PyTorch."""
    quant = Quant("nf4", double=False, compute=compute)
    assert len(second_gradients("llama", quant, evaluated=False, switch=True)) == 8
    gradients = second_gradients("llama", quant, evaluated=True, switch=True)
    assert not any(gradient.any() for gradient in gradients.values())


def linear(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def stored(quant: Quant) -> str:
    return "Linear8bitLt" if quant.name == "int8" else "Linear4bit"


@kinds
@quants
def test_random_weights_are_stored_quantised_apart_from_the_head(kind: str, quant: Quant) -> None:
    model = small(kind, quant)
    layers = linear(model)
    (head,) = [name for name in layers if name.split(".")[-1] in heads(model)]
    assert type(layers[head]) is nn.Linear
    blocks = [module for name, module in layers.items() if "layer" in name]
    assert len(blocks) == (12 if kind == "bert" else 14)
    assert {type(module).__name__ for module in blocks} == {stored(quant)}
    expected = None if quant.name == "int8" else quant.name
    assert {getattr(module.weight, "quant_type", None) for module in blocks} == {expected}


@quants
@torch.inference_mode()
def test_random_weights_are_those_of_the_model_in_full_precision(quant: Quant) -> None:
    # Below the width of a block, the error doubles.
    unquantised, quantised = small(width=64), small(quant=quant, width=64)
    assert torch.equal(unquantised.classifier.weight, quantised.classifier.weight)
    assert torch.equal(
        unquantised.bert.embeddings.word_embeddings.weight, quantised.bert.embeddings.word_embeddings.weight
    )
    for name, layer in linear(unquantised).items():
        weight = linear(quantised)[name](torch.eye(layer.in_features)).T
        error = (weight - layer.weight).norm() / layer.weight.norm()
        assert error < {"nf4": 0.1, "fp4": 0.15, "int8": 0.015}[quant.name], name


@quants
def test_a_folder_is_loaded_quantised_except_for_the_new_modules_of_the_task(quant: Quant, tiny_bert: Path) -> None:
    source = find_model(ModelConf(label="tiny", name=str(tiny_bert)))
    model = load_model(source, 2, seed=0, attention="eager", quant=quant)
    modules = linear(model)
    assert {type(module).__name__ for name, module in modules.items() if "layer" in name} == {stored(quant)}
    assert {type(module) for name, module in modules.items() if is_head(name, model)} == {nn.Linear}
    assert model.new_modules == ("pooler",)
    assert {parameter.dtype for name, parameter in model.named_parameters() if is_head(name, model)} == {torch.float32}


@kinds
@quants
def test_a_quantised_model_has_as_many_parameters_as_the_one_in_full_precision(kind: str, quant: Quant) -> None:
    assert count(small(kind, quant)).total == count(small(kind)).total


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_double_quantisation_stores_the_scales_in_a_byte_each(name: str) -> None:
    single, double = (
        small(quant=Quant(name, double=double, compute=torch.float32)).bert.encoder.layer[0].output.dense.weight
        for double in (False, True)
    )
    assert single.numel() == double.numel() == 32 * 64 // 2
    assert single.quant_state.absmax.nbytes == 4 * 32
    assert double.quant_state.absmax.nbytes == 32


@pytest.mark.parametrize(
    ("setting", "dtype", "expected"),
    [
        ("fp32", torch.bfloat16, torch.float32),
        ("bf16", torch.float32, torch.bfloat16),
        ("null", torch.float32, torch.float32),
        ("null", torch.bfloat16, torch.bfloat16),
    ],
)
def test_the_arithmetic_on_the_base_is_what_the_config_says(
    setting: str, dtype: torch.dtype, expected: torch.dtype, tiny: list[str]
) -> None:
    (cell,) = grid.cells([*tiny, "quant=nf4", f"quant.compute={setting}"], multirun=False)
    model = load_backbone(cell, seed=0, compute=Compute(CPU, dtype))
    layers = [module for name, module in linear(model).items() if "layer" in name]
    with torch.inference_mode():
        assert {layer(torch.ones(1, layer.in_features)).dtype for layer in layers} == {torch.float32}
    assert {layer.compute_dtype for layer in layers} == {expected}  # bitsandbytes may change it at the first call


@torch.inference_mode()
def logits(model: nn.Module) -> Tensor:
    return forward(model.eval(), BATCH)


@pytest.mark.filterwarnings("ignore:lora with eva initialization", "ignore:OLoRA changes the base")
@kinds
@pytest.mark.parametrize("name", LOW_RANK)
def test_an_adapter_on_a_quantised_base_learns_and_reloads(name: str, kind: str, tmp_path: Path) -> None:
    model, attach, hooks = attached(name, kind, NF4)
    hooks.prepare(model, [arguments(BATCH)])
    before = logits(model)
    gradients = [update(model) for _ in range(2)][-1]
    assert gradients
    assert all(gradient.any() for gradient in gradients.values())
    expected = logits(model)
    assert not torch.equal(expected, before)
    save_adapter(model, tmp_path, attach)
    fresh = small(kind, NF4)
    for parameter in (parameter for part, parameter in fresh.named_parameters() if is_head(part, fresh)):
        nn.init.ones_(parameter)
    assert not torch.allclose(logits(fresh), expected, atol=1e-3)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(fresh, tmp_path)), expected, rtol=0, atol=1e-6)


@cache
def refusal(*overrides: str) -> str:
    with pytest.raises(Misfit) as caught:
        grid.cells(list(overrides), multirun=False)
    return str(caught.value)


@pytest.mark.parametrize(
    ("method", "quant", "works"),
    [
        ("full", "nf4", "none"),
        ("loha", "nf4", "none"),
        ("pissa", "nf4", "none"),
        ("dora", "int8", "none, nf4, fp4, bf16"),
    ],
)
def test_a_method_that_cannot_work_on_a_quantised_base_is_refused_with_the_valid_choices(
    method: str, quant: str, works: str, tiny: list[str]
) -> None:
    message = refusal(*tiny, f"method={method}", f"quant={quant}")
    assert message == f"method {method!r} does not work on a base quantised to {quant}; it works on quant={works}"


def test_double_quantisation_is_refused_where_there_are_no_blocks(tiny: list[str]) -> None:
    for quant in ("none", "int8"):
        assert f"not with quant={quant}" in refusal(*tiny, f"quant={quant}", "quant.double=true")


def identity(*overrides: str) -> dict[str, Any]:
    (cell,) = grid.cells(list(overrides), multirun=False)
    return cell.identity


def test_qlora_is_lora_on_a_doubly_quantised_base_with_a_paged_optimizer(tiny: list[str]) -> None:
    parts = ["method=lora", "quant=nf4", "quant.double=true", "optim=paged_adamw_32bit"]
    qlora, spelled_out = identity(*tiny, "method=qlora"), identity(*tiny, *parts)
    assert qlora["method"].pop("name") == "qlora"
    assert spelled_out["method"].pop("name") == "lora"
    assert (qlora.pop("target"), spelled_out.pop("target")) == (sorted(["q", "k", "v", "o", "up", "down"]), ["q", "v"])
    assert qlora == spelled_out


def test_the_optimizer_and_the_base_of_qlora_can_be_chosen(tiny: list[str]) -> None:
    (cell,) = grid.cells([*tiny, "method=qlora", "optim=adamw"], multirun=False)
    assert (cell.optim, cell.base, cell.config["optim"]["name"]) == (None, "nf4+double", "adamw")
    (cell,) = grid.cells([*tiny, "method=qlora", "quant=fp4"], multirun=False)
    assert (cell.optim, cell.base) == ("paged_adamw_32bit", "fp4+double")
