"""Trained parameters of each method at true model sizes, by formula, on meta-device models without weights."""

import copy
import resource
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, axes
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    RobertaConfig,
)

from bench.config.register import register
from bench.measure.parameters import Parameters, count
from bench.models.targets import resolve, spelled_out

CONF = REPOSITORY / "conf"
LAYERS, HIDDEN, INNER = 12, 768, 3072
HEAD = 2 * HIDDEN + 2
FULL = 109_483_778
LAYER_NORMS = LAYERS * 2 * 2 * HIDDEN
SIDES = {**dict.fromkeys(("q", "k", "v", "o"), 2 * HIDDEN), **dict.fromkeys(("up", "down"), HIDDEN + INNER)}


def bert_base(labels: int = 2) -> nn.Module:
    architecture = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "bert-base.yaml").architecture)
    assert isinstance(architecture, dict)
    assert architecture.pop("model_type") == "bert"
    return on_meta(BertConfig(**architecture, num_labels=labels))


def roberta_base() -> nn.Module:
    return on_meta(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=2))


def on_meta(config: Any) -> nn.Module:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


def counted(model: nn.Module, name: str, *, rank: int = 8, parts: list[str] | None = None) -> Parameters:
    """Attach the method `name` as its yaml says; return the counts."""
    conf = OmegaConf.merge(axes(rank), OmegaConf.load(CONF / "method" / f"{name}.yaml"))
    placed = {}
    if "target" in conf.uses:
        placed["target"] = resolve(parts or list(conf.target), model.config.model_type)
    with torch.device("meta"):
        return count(instantiate(OmegaConf.to_container(conf, resolve=True)["attach"])(model, **placed))


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_lora_on_query_and_value_trains_36864_per_rank_and_the_head(rank: int) -> None:
    assert counted(bert_base(), "lora", rank=rank) == Parameters(36_864 * rank + 1_538, 1_538, FULL + 36_864 * rank)


@pytest.mark.parametrize("word", ["q", "k", "v", "o", "qk", "qv", "qkvo", "mlp", "all"])
def test_lora_trains_rank_times_both_sides_of_every_adapted_matrix(word: str) -> None:
    parts = list(OmegaConf.load(CONF / "target" / f"{word}.yaml").parts)
    expected = LAYERS * 8 * sum(SIDES[part] for part in spelled_out(parts, "bert"))
    assert counted(bert_base(), "lora", parts=parts).trainable == expected + HEAD


def test_lora_is_the_same_size_on_each_attention_matrix() -> None:
    # LoRA's tables 5 and 6 compare weight types at one budget: four matrices at r=2 are as large as one at r=8.
    single, four = (
        counted(bert_base(), "lora", rank=rank, parts=list(parts)) for rank, parts in ((8, "q"), (2, "qkvo"))
    )
    assert single == four


@pytest.mark.parametrize("width", [8, 64, 256])
def test_a_houlsby_adapter_follows_each_sublayer_and_trains_the_layer_norms(width: int) -> None:
    adapters = 2 * LAYERS * (2 * HIDDEN * width + HIDDEN + width)
    counts = counted(bert_base(), "adapter", rank=width)
    assert counts == Parameters(adapters + LAYER_NORMS + HEAD, HEAD, FULL + adapters)


def test_a_houlsby_adapter_of_width_64_has_the_published_size() -> None:
    assert counted(bert_base(), "adapter", rank=64).trainable == 2_379_264 + 36_864 + 1_538


@pytest.mark.parametrize("width", [8, 64, 256])
def test_a_pfeiffer_adapter_trains_half_of_the_houlsby_adapters_and_no_layer_norm(width: int) -> None:
    both = counted(bert_base(), "adapter", rank=width).trainable - LAYER_NORMS - HEAD
    assert counted(bert_base(), "adapter_pfeiffer", rank=width).trainable == both // 2 + HEAD


def test_a_pfeiffer_adapter_of_width_64_has_the_published_size() -> None:
    assert counted(bert_base(), "adapter_pfeiffer", rank=64).trainable == 1_189_632 + 1_538


def test_ia3_rescales_the_inner_activation_and_not_the_attention_output() -> None:
    # It would be 64,512 if the suffix output.dense also matched the attention.
    counts = counted(bert_base(), "ia3")
    assert counts.trainable - counts.head == LAYERS * (HIDDEN + HIDDEN + INNER) == 55_296
    assert counts.head == 1_538
    assert counts.total == FULL + 55_296


def test_ia3_rescales_the_output_of_everything_but_the_feed_forward_output() -> None:
    counts = counted(bert_base(), "ia3", parts=["q", "k", "v", "o", "up", "down"])
    assert counts.trainable - counts.head == LAYERS * (4 * HIDDEN + INNER + INNER)


def test_full_trains_every_parameter() -> None:
    assert counted(bert_base(), "full") == Parameters(FULL, 1_538, FULL)


def test_head_trains_the_classifier_alone() -> None:
    assert counted(bert_base(), "head") == Parameters(1_538, 1_538, FULL)


def test_bitfit_trains_one_bias_per_output_and_the_head() -> None:
    attention, feed_forward, layer_norms = 4 * HIDDEN, INNER + HIDDEN, 2 * HIDDEN
    embeddings, pooler = HIDDEN, HIDDEN
    expected = LAYERS * (attention + feed_forward + layer_norms) + embeddings + pooler + HEAD
    assert counted(bert_base(), "bitfit") == Parameters(expected, HEAD, FULL)


@pytest.mark.parametrize("labels", [3, 4])
def test_the_head_grows_with_the_labels_and_nothing_else_does(labels: int) -> None:
    two, more = counted(bert_base(), "lora"), counted(bert_base(labels), "lora")
    assert more.head == labels * (HIDDEN + 1)
    assert more.trainable - more.head == two.trainable - two.head


def test_roberta_base_with_lora_has_the_papers_size_and_its_own_head() -> None:
    head = HIDDEN * HIDDEN + HIDDEN + HEAD  # RoBERTa's head has a hidden layer
    assert counted(roberta_base(), "lora", rank=8) == Parameters(294_912 + head, head, 124_647_170 + 294_912)


@pytest.mark.parametrize("method", ["adapter", "adapter_pfeiffer", "ia3"])
def test_a_method_adds_the_same_parameters_to_roberta_as_to_bert(method: str) -> None:
    bert, roberta = (counted(model, method) for model in (bert_base(), roberta_base()))
    assert bert.trainable - bert.head == roberta.trainable - roberta.head


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_the_frozen_copy_of_the_head_is_not_counted(method: str) -> None:
    counts = counted(bert_base(), method)
    assert counts.total == FULL + counts.trainable - counts.head


def test_percent_is_the_trainable_share() -> None:
    assert Parameters(trainable=5, head=1, total=200).percent == 2.5
    assert counted(bert_base(), "full").percent == 100


def llama_1b(kind: Any = AutoModelForSequenceClassification) -> nn.Module:
    """Return Llama-3.2-1B in its published shape."""
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=8192,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    with torch.device("meta"):
        return kind.from_config(config)


def test_a_prompt_of_20_tokens_with_four_classes_has_the_known_size() -> None:
    assert counted(bert_base(labels=4), "prompt", rank=20) == Parameters(18_436, 4 * (HIDDEN + 1), 109_500_676)


def test_llama_1b_has_the_published_size() -> None:
    assert count(llama_1b(AutoModelForCausalLM)) == Parameters(1_235_814_400, 0, 1_235_814_400)
    assert counted(llama_1b(), "full") == Parameters(1_235_814_400 + 2 * 2048, 2 * 2048, 1_235_814_400 + 2 * 2048)


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_lora_on_llama_1b_trains_106496_per_rank(rank: int) -> None:
    causal = counted(llama_1b(AutoModelForCausalLM), "lora", rank=rank)
    assert causal == Parameters(106_496 * rank, 0, 1_235_814_400 + 106_496 * rank)
    assert counted(llama_1b(), "lora", rank=rank).trainable == 106_496 * rank + 2 * 2048


def test_ia3_on_llama_1b_trains_147456() -> None:
    assert counted(llama_1b(AutoModelForCausalLM), "ia3") == Parameters(147_456, 0, 1_235_814_400 + 147_456)


@lru_cache(maxsize=1)
def real_bert_base() -> nn.Module:
    """Return a model with random weights in memory, made once."""
    return AutoModelForSequenceClassification.from_config(bert_base().config)


@lru_cache(maxsize=1)
def empty_llama_1b() -> nn.Module:
    return llama_1b()


@lru_cache(maxsize=1)
def composed(name: str) -> dict[str, Any]:
    """Return a method's configuration as the command line composes it."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        conf = OmegaConf.to_container(compose("config", [f"method={name}"]).method, resolve=True)
    assert isinstance(conf, dict)
    return conf


def attach_seconds(name: str, model: nn.Module, tokenizer: Path) -> float:
    """Return the CPU time of attaching a method to a copy of the model.

    The copy shares the weights, so that copying costs nothing. System time is excluded, because the cost of fresh
    memory depends on what else runs.
    """
    conf = composed(name)
    fresh = copy.deepcopy(model, {id(part): nn.Parameter(part.detach()) for part in model.parameters()})
    fresh.config.name_or_path = str(tokenizer)  # for prompts initialised from words
    placed = {"target": resolve(conf["target"], model.config.model_type)} if "target" in conf["uses"] else {}
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with next(model.parameters()).device:
        instantiate(conf["attach"])(fresh, **placed)
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - start


NEEDS_CUDA = {"loftq"}
NEEDS_WEIGHTS = {"boft", "shira"}  # PEFT reads weights while attaching, and meta tensors have none


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONF / "method").glob("*.yaml")} - NEEDS_CUDA))
@pytest.mark.filterwarnings("ignore:lora with eva initialization used with low_cpu_mem_usage=False")
@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension")
@pytest.mark.filterwarnings("ignore:Setting boft_n_butterfly_factor to 1")
def test_attaching_is_fast(name: str, tiny_bert: Path) -> None:
    if name != "llama_adapter":
        limit = 3 if name == "pissa" else 1  # it computes a singular value decomposition of each matrix
        assert any(attach_seconds(name, real_bert_base(), tiny_bert) < limit for _ in range(3))  # one may be slow
    if name not in {"bitfit"} | NEEDS_WEIGHTS:
        assert any(attach_seconds(name, empty_llama_1b(), tiny_bert) < 3 for _ in range(2))
