"""A target word means exactly the weights that the LoRA paper means by it, on every architecture."""

from functools import cache, partial

import pytest
import torch
from conftest import REPOSITORY
from omegaconf import OmegaConf
from peft import LoraConfig
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from bench.methods.peft_library import attach
from bench.models.architectures import ARCHITECTURES
from bench.models.targets import name_of, resolve, spelled_out

CONF = REPOSITORY / "conf" / "target"
WORDS = {
    "q": ["q"],
    "k": ["k"],
    "v": ["v"],
    "o": ["o"],
    "qk": ["q", "k"],
    "qv": ["q", "v"],
    "qkvo": ["q", "k", "v", "o"],
    "mlp": ["gate", "up", "down"],
    "all": ["q", "k", "v", "o", "gate", "up", "down"],
}
BERT = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
LLAMA = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NAMES = {**dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), BERT), "llama": LLAMA}
STEMS = {
    "bert": "bert.encoder.layer",
    "roberta": "roberta.encoder.layer",
    "xlm-roberta": "roberta.encoder.layer",
    "camembert": "roberta.encoder.layer",
    "llama": "model.layers",
}


@cache
def parts_of(word: str) -> list[str]:
    return list(OmegaConf.load(CONF / f"{word}.yaml").parts)


def model_of(model_type: str, layers: int = 12) -> nn.Module:
    with torch.device("meta"):
        config = AutoConfig.for_model(model_type, num_hidden_layers=layers)
        return AutoModelForSequenceClassification.from_config(config)


@cache
def module_names(model_type: str) -> tuple[str, ...]:
    return tuple(name for name, _ in model_of(model_type).named_modules())


def meant(word: str, model_type: str) -> list[str]:
    """Return the parts that a word means on an architecture. Only a Llama has a gate."""
    return [part for part in WORDS[word] if part in NAMES[model_type]]


def full_names(model_type: str, word: str, layers: int = 12) -> set[str]:
    ends = [NAMES[model_type][part] for part in meant(word, model_type)]
    return {f"{STEMS[model_type]}.{n}.{end}" for n in range(layers) for end in ends}


def test_every_target_file_has_its_meaning_here() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} - {"default"} == set(WORDS)
    assert set(STEMS) == set(NAMES) <= set(ARCHITECTURES)


@pytest.mark.parametrize("model_type", STEMS)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_spelled_out_for_each_architecture(word: str, model_type: str) -> None:
    assert spelled_out(parts_of(word), model_type) == tuple(meant(word, model_type))
    assert resolve(parts_of(word), model_type) == resolve(meant(word, model_type), model_type)


def test_a_part_that_is_named_twice_counts_once() -> None:
    assert spelled_out(["down", "mlp", "q", "q"], "bert") == ("down", "up", "q")
    assert spelled_out(["all", "q"], "llama") == ("q", "k", "v", "o", "gate", "up", "down")


def test_a_word_within_a_list_stands_for_its_parts() -> None:
    assert spelled_out(["q", "mlp"], "bert") == ("q", "up", "down")
    assert spelled_out(["q", "mlp"], "llama") == ("q", "gate", "up", "down")


@pytest.mark.parametrize("model_type", STEMS)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_matches_its_modules_by_full_name_and_no_other_module(word: str, model_type: str) -> None:
    target = resolve(parts_of(word), model_type)
    matched = [name for name in module_names(model_type) if target.matches(name)]
    assert len(matched) == 12 * len(meant(word, model_type))
    assert set(matched) == full_names(model_type, word)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "llama"])
@pytest.mark.parametrize("word", WORDS)
def test_peft_adapts_exactly_the_modules_that_the_target_matches(word: str, model_type: str) -> None:
    model = attach(
        model_of(model_type, layers=2), config=partial(LoraConfig, r=2), target=resolve(parts_of(word), model_type)
    )
    adapted = {name.removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith(".lora_A")}
    assert adapted == {f"base_model.model.{name}" for name in full_names(model_type, word, layers=2)}


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_down_does_not_match_the_attention_output(model_type: str) -> None:
    layer = f"{STEMS[model_type]}.11"
    down, attention = resolve(["down"], model_type), resolve(["o"], model_type)
    assert down.matches(f"{layer}.output.dense")
    assert not down.matches(f"{layer}.attention.output.dense")
    assert attention.matches(f"{layer}.attention.output.dense")
    assert not attention.matches(f"{layer}.output.dense")


def test_all_leaves_pooler_and_head_alone() -> None:
    target = resolve(parts_of("all"), "bert")
    for name in ("bert.pooler.dense", "classifier", "classifier.dense", "bert.embeddings.word_embeddings"):
        assert not target.matches(name)


def test_names_of_a_wrapped_model_match_too() -> None:
    assert resolve(["q"], "bert").matches("base_model.model.bert.encoder.layer.3.attention.self.query")
    assert not resolve(["q"], "bert").matches("bert.encoder.layer.3.attention.self.query.lora_A")


def test_the_down_pattern_names_the_feed_forward_outputs_and_is_absent_without_them() -> None:
    assert resolve(["q", "v", "o", "up"], "bert").down_pattern is None
    target = resolve(["k", "v", "down"], "bert")
    assert target.down_pattern == resolve(["down"], "bert").pattern


@pytest.mark.parametrize("model_type", ["bert", "roberta", "llama"])
@pytest.mark.parametrize("word", WORDS)
def test_parts_are_named_by_the_word_that_stands_for_them_in_any_order(word: str, model_type: str) -> None:
    assert name_of(meant(word, model_type), model_type) == word
    assert name_of(meant(word, model_type)[::-1], model_type) == word


def test_parts_without_a_word_are_joined() -> None:
    assert name_of(["down", "v", "k"], "bert") == "kv+down"
    assert name_of(["up"], "bert") == "up"
    assert name_of(["up", "down"], "llama") == "up+down"  # without the gate it is not the whole feed-forward


@pytest.mark.parametrize("parts", [["q", "z"], ["qv"], []])
def test_a_part_that_the_architecture_lacks_is_refused_with_the_choice(parts: list[str]) -> None:
    with pytest.raises(ValueError, match="choose from q, k, v, o, up, down") as caught:
        resolve(parts, "bert")
    assert str(caught.value).partition("choose from ")[2].startswith("q, k, v, o, up, down, mlp, all")
    assert "\n" not in str(caught.value)


def test_only_a_gated_feed_forward_has_a_gate() -> None:
    with pytest.raises(ValueError, match="'gate' is unknown for bert"):
        resolve(["gate"], "bert")
    assert resolve(["gate"], "llama").matches("model.layers.0.mlp.gate_proj")


def test_an_architecture_without_an_entry_is_refused_with_the_choice() -> None:
    with pytest.raises(
        ValueError, match=r"type 'gpt2'; choose one of type bert, roberta, xlm-roberta, camembert, llama"
    ):
        resolve(["q"], "gpt2")
