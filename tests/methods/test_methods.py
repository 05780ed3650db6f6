"""What each method trains, where it sits in the model, and that training starts from the pretrained model."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, axes
from hydra.utils import instantiate
from omegaconf import OmegaConf
from peft import IA3Config, LoraConfig
from small_trials import SIZES, small
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, RobertaConfig

from bench.config.schema import ModelConf
from bench.methods import adapter
from bench.methods import peft_library as peft
from bench.methods.adapter import INIT_STD, Adapted, Bottleneck
from bench.models.load import load_model
from bench.models.source import find_model
from bench.models.structure import head_names, heads, is_head
from bench.models.targets import resolve

CONF = REPOSITORY / "conf" / "method"
METHODS = ["full", "head", "bitfit", "lora", "ia3", "adapter", "adapter_pfeiffer"]  # the others: test_every_method.py
LAYER_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def conf_of(name: str, rank: int = 4) -> dict[str, Any]:
    conf = OmegaConf.to_container(OmegaConf.merge(axes(rank), OmegaConf.load(CONF / f"{name}.yaml")), resolve=True)
    assert isinstance(conf, dict)
    return conf


def tiny(model_type: str = "bert") -> nn.Module:
    config = {"bert": BertConfig, "roberta": RobertaConfig}[model_type](**SIZES)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


def attached(name: str, model_type: str = "bert") -> nn.Module:
    conf = conf_of(name)
    placed = {"target": resolve(conf["target"], model_type)} if "target" in conf["uses"] else {}
    return instantiate(conf["attach"])(tiny(model_type), **placed).eval()


def logits(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(1, 49).view(4, 12)
    return model(input_ids=ids).logits


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def in_layers(model_type: str, *ends: str) -> set[str]:
    return {f"{model_type}.encoder.layer.{number}.{end}" for number in range(2) for end in ends}


def head_of(model_type: str) -> set[str]:
    layers = {"bert": ("classifier",), "roberta": ("classifier.dense", "classifier.out_proj")}[model_type]
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def intended(name: str, model_type: str) -> set[str]:
    """Return the names of the tensors that a method must train, besides the head."""
    everything = {tensor_name for tensor_name, _ in tiny(model_type).named_parameters()}
    bottleneck = [f"output.dropout.adapter.{part}.{kind}" for part in ("down", "up") for kind in ("weight", "bias")]
    norms = [f"{norm}.{kind}" for norm in LAYER_NORMS for kind in ("weight", "bias")]
    lora = [f"attention.self.{part}.lora_{side}.default.weight" for part in ("query", "value") for side in "AB"]
    scales = [f"{part}.ia3_l.default" for part in ("attention.self.key", "attention.self.value", "output.dense")]
    return {
        "full": everything,
        "head": set(),
        "bitfit": {tensor_name for tensor_name in everything if tensor_name.endswith(".bias")},
        "adapter": in_layers(model_type, *bottleneck, *(f"attention.{part}" for part in bottleneck), *norms),
        "adapter_pfeiffer": in_layers(model_type, *bottleneck),
        "lora": in_layers(model_type, *lora),
        "ia3": in_layers(model_type, *scales),
    }[name]


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
@pytest.mark.parametrize("name", METHODS)
def test_only_the_intended_tensors_and_the_head_are_trained(name: str, model_type: str) -> None:
    names = {
        part.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for part in trained(attached(name, model_type))
    }
    assert names == intended(name, model_type) | head_of(model_type)


@pytest.mark.parametrize("name", METHODS)
def test_the_first_gradient_reaches_every_kind_of_trained_tensor(name: str) -> None:
    model = attached(name)
    nn.functional.cross_entropy(logits(model), torch.tensor([0, 1, 0, 1])).backward()
    moved = {part for part, tensor in model.named_parameters() if tensor.grad is not None and tensor.grad.any()}
    # LoRA's A has no gradient until B leaves zero. A key's bias shifts all scores equally, so softmax cancels it.
    waiting = {part for part in trained(model) if "lora_A" in part}
    ignored = {part for part in trained(model) if part.endswith("key.bias")}
    assert moved - ignored == trained(model) - waiting - ignored


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"adapter", "adapter_pfeiffer"}))
@torch.no_grad()
def test_training_starts_exactly_from_the_pretrained_model(name: str, model_type: str) -> None:
    torch.testing.assert_close(logits(attached(name, model_type)), logits(tiny(model_type)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
@pytest.mark.parametrize("name", ["adapter", "adapter_pfeiffer"])
@torch.no_grad()
def test_adapters_start_near_the_identity_and_not_at_it(name: str, model_type: str) -> None:
    before, model = logits(tiny(model_type)), attached(name, model_type)
    assert (logits(model) - before).norm() < 1e-3 * before.norm()
    weights = [parameter for part, parameter in model.named_parameters() if ".adapter." in part and parameter.ndim == 2]
    assert weights
    for weight in weights:  # at zero, neither of the two matrices would ever get a gradient
        assert 0 < weight.abs().max() <= 2 * INIT_STD


@torch.no_grad()
def test_a_bottleneck_is_a_residual_mlp() -> None:
    torch.manual_seed(0)
    module, x = Bottleneck(6, 3, "gelu"), torch.randn(2, 5, 6)
    for parameter in module.parameters():
        parameter.normal_()
    inner = x @ module.down.weight.T + module.down.bias
    inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    torch.testing.assert_close(module(x), x + inner @ module.up.weight.T + module.up.bias)


@torch.no_grad()
def test_a_bottleneck_has_the_named_activation() -> None:
    module = Bottleneck(6, 3, "relu")
    module.down.weight.fill_(1)
    module.up.weight.fill_(1)
    assert torch.equal(module(-torch.ones(1, 6)), -torch.ones(1, 6))
    assert torch.equal(module(torch.ones(1, 6)), torch.full((1, 6), 19.0))


@torch.no_grad()
def scrambled(model: nn.Module) -> nn.Module:
    """Move the adapters far from the identity; return the model."""
    torch.manual_seed(1)
    for part, parameter in model.named_parameters():
        if ".adapter." in part:
            parameter.normal_()
    return model


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
@torch.no_grad()
def test_an_adapter_works_between_the_sublayer_and_the_residual_sum(model_type: str) -> None:
    layers = scrambled(attached("adapter", model_type)).base_model.encoder.layer
    torch.manual_seed(2)
    for layer in layers:
        for output, width in ((layer.attention.output, 32), (layer.output, 64)):
            hidden, residual = torch.randn(3, 5, width), torch.randn(3, 5, 32)
            expected = output.LayerNorm(output.dropout.adapter(output.dense(hidden)) + residual)
            torch.testing.assert_close(output(hidden, residual), expected)
            assert not torch.allclose(output(hidden, residual), output.LayerNorm(output.dense(hidden) + residual))


def test_a_houlsby_adapter_follows_both_sublayers_and_a_pfeiffer_adapter_the_second() -> None:
    for name, after_attention in (("adapter", True), ("adapter_pfeiffer", False)):
        for layer in attached(name).base_model.encoder.layer:
            assert isinstance(layer.attention.output.dropout, Adapted) == after_attention
            assert isinstance(layer.output.dropout, Adapted)
            assert isinstance(layer.output.dropout.inner, nn.Dropout)


@torch.no_grad()
def test_dropout_comes_before_the_adapter() -> None:
    bottleneck = Bottleneck(6, 3, "gelu")
    bottleneck.up.bias.fill_(2)
    module, x = Adapted(nn.Dropout(p=1.0), bottleneck), torch.randn(4, 6)
    assert torch.equal(module.train()(x), torch.full((4, 6), 2.0))
    assert torch.equal(module.eval()(x), bottleneck(x))


def test_an_adapter_can_follow_the_attention_alone_with_layer_norms_frozen() -> None:
    model = adapter.attach(tiny(), width=4, after=["attention"], layer_norms=False, activation="gelu")
    assert {part for part in trained(model) if ".output.dropout.adapter." in part}
    assert all("attention.output.dropout" in part or is_head(part, model) for part in trained(model))


def test_an_unknown_place_for_an_adapter_is_refused_before_the_model_is_touched() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"^method\.attach\.after: 'mlp' is unknown; .* attention, feed_forward$"):
        adapter.attach(model, width=4, after=["attention", "mlp"], layer_norms=True, activation="gelu")
    assert trained(model) == {part for part, _ in model.named_parameters()}


def test_the_head_is_recognised_by_whole_words_of_a_name() -> None:
    model = tiny()
    for name in (
        "classifier.weight",
        "classifier.out_proj.bias",
        "base_model.model.classifier.modules_to_save.default.bias",
    ):
        assert is_head(name, model), name
    for name in (
        "bert.encoder.layer.0.output.dense.weight",
        "bert.classifiers.weight",
        "underscore.weight",
        "bert.pooler.dense.weight",  # a pooler from the checkpoint
    ):
        assert not is_head(name, model), name
    assert is_head("score.weight", small("llama"))


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_the_heads_module_is_the_classifier(model_type: str) -> None:
    assert head_names(tiny(model_type)) == ["classifier"]


def loaded(folder: Path) -> nn.Module:
    return load_model(find_model(ModelConf(label="x", name=str(folder))), 2, seed=0, attention="eager").eval()


@pytest.mark.parametrize("name", METHODS)
def test_a_pooler_that_the_checkpoint_lacks_is_new_and_trained_by_every_method(name: str, tiny_bert: Path) -> None:
    conf, model = conf_of(name), loaded(tiny_bert)
    assert heads(model) == ("classifier", "pooler")
    assert sorted(head_names(model)) == ["classifier", "pooler"]
    placed = {"target": resolve(conf["target"], "bert")} if "target" in conf["uses"] else {}
    names = {
        part.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for part in trained(instantiate(conf["attach"])(model, **placed))
    }
    assert names == intended(name, "bert") | head_of("bert") | {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


def test_a_pooler_that_the_checkpoint_has_is_not_part_of_the_head(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    model = loaded(tmp_path)
    assert head_names(model) == ["classifier"]
    assert not is_head("bert.pooler.dense.weight", model)


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_a_peft_model_keeps_an_untrained_copy_of_the_head(name: str) -> None:
    copies = [parameter for part, parameter in attached(name).named_parameters() if ".original_module." in part]
    assert len(copies) == 2
    assert not any(parameter.requires_grad for parameter in copies)


def test_ia3_scales_the_input_of_the_feed_forward_output_and_the_output_of_all_others() -> None:
    model = peft.attach(tiny(), config=partial(IA3Config), target=resolve(["k", "o", "up", "down"], "bert"))
    first = "base_model.model.bert.encoder.layer.0."
    shapes = {
        part.removeprefix(first): tuple(tensor.shape)
        for part, tensor in model.named_parameters()
        if part.startswith(first) and "ia3_l" in part
    }
    assert shapes == {
        "attention.self.key.ia3_l.default": (32, 1),
        "attention.output.dense.ia3_l.default": (32, 1),
        "intermediate.dense.ia3_l.default": (64, 1),
        "output.dense.ia3_l.default": (1, 64),
    }


def test_ia3_without_the_feed_forward_has_no_feed_forward_modules() -> None:
    model = peft.attach(tiny(), config=partial(IA3Config), target=resolve(["k", "v"], "bert"))
    assert not model.peft_config["default"].feedforward_modules
    assert {tuple(tensor.shape) for part, tensor in model.named_parameters() if "ia3_l" in part} == {(32, 1)}


def test_a_setting_that_peft_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="rang"):
        peft.attach(tiny(), config=partial(LoraConfig, rang=4), target=resolve(["q"], "bert"))


def test_a_peft_method_without_a_target_places_itself() -> None:
    model = peft.attach(tiny(), config=partial(LoraConfig, r=2))  # PEFT's own default for BERT: query and value
    assert {part.split(".")[-4] for part in trained(model) if "lora" in part} == {"query", "value"}


def test_loras_scale_is_one_at_every_rank() -> None:
    for rank in (1, 8, 64):
        config = conf_of("lora", rank)["attach"]["config"]
        assert config["r"] == config["lora_alpha"] == rank


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_yaml_says_where_its_learning_rates_come_from(name: str) -> None:
    conf = conf_of(name)
    assert conf["name"] == name
    assert conf["lr"] > 0
    assert conf["lr_source"].strip()
    assert conf["paper"].strip()
    assert set(conf["uses"]) <= {"rank", "target", "scale"}


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_yaml_uses_the_axes_that_it_names(name: str) -> None:
    conf = conf_of(name)
    assert ("rank" in conf["uses"]) == (conf_of(name, 4)["attach"] != conf_of(name, 5)["attach"])
    assert ("target" in conf["uses"]) == bool(conf.get("target"))
    if conf.get("target"):
        resolve(conf["target"], "bert")
