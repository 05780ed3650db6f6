"""The backbone with a classification head, or as the language model that it is, and its tokenizer."""

import logging
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from bench.models.masked_lm import at_mask, new_parts
from bench.models.quant import Quant, keep_gradients, map_over_trials
from bench.models.source import Source
from bench.models.structure import head_names
from bench.models.tokenizer import check_files, check_tokenizer
from bench.models.vmap.attention import NAME as ATTENTION

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of optional kernels on every CPU


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model; a decoder's pads on the left, so that a text's last token is the row's last.

    ValueError: there is none, it cannot be read, or it is not the model's.
    """
    check_files(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing more special
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"the tokenizer of {source.location} cannot be loaded ({reason})") from error
    if source.is_decoder:
        tokenizer.padding_side = "left"
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # a Llama knows no types of tokens
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    check_tokenizer(tokenizer, source)
    return tokenizer


def load_model(
    source: Source,
    num_labels: int,
    *,
    seed: int,
    speaks: bool = False,
    attention: str = ATTENTION,
    dropout: float | None = None,
    quant: Quant | None = None,
    device: torch.device | None = None,
) -> nn.Module:
    """Load a backbone in fp32; the head is drawn from `seed`, and a language model has none. Random weights are the
    same for every seed: they stand for a checkpoint, which all trials share.

    speaks: as a language model, a causal or a masked one, with the words as its outputs instead of labels.
    attention: transformers' name of the attention implementation. dropout: None keeps the model's own. quant: how the
    base's matrices are stored, None for fp32; a quantised base is made on the device, and stays there.
    """
    torch.manual_seed(0 if source.random else seed)
    config = _config(source, num_labels, dropout)
    given: dict[str, Any] = {"attn_implementation": attention}
    auto = _auto(source, speaks)
    kind: Any
    if source.random:
        model = _with_head(auto.from_config(config, **given), seed)
        if quant is None:
            return _named(model, source, [])
        kind, location, given = type(model), None, given | {"state_dict": model.state_dict()}
    else:
        kind, location = auto, source.location
        given |= {"revision": source.revision, "use_safetensors": True}
    if quant is not None:
        given |= {
            "quantization_config": quant.settings(_never_quantised(source)),
            "device_map": {"": device or "cpu"},
        }
    model, info = kind.from_pretrained(
        location,
        config=config,
        dtype=torch.float32,
        trust_remote_code=False,
        output_loading_info=True,
        **given,
    )
    return _named(map_over_trials(keep_gradients(model)), source, info["missing_keys"])


def _never_quantised(source: Source) -> list[str]:
    """Modules above the backbone: what is trained, and what gives the logits."""
    return [*source.architecture.head, ".*pooler", source.architecture.masked_head or "lm_head"]


def _with_head(model: Any, seed: int) -> nn.Module:
    """Draw the task's head anew."""
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if name in head_names(model):
            for part in module.parameters():
                part._is_hf_initialized = False  # noqa: SLF001 - or transformers would leave it as it is
            module.apply(model._init_weights)  # noqa: SLF001
    return model  # type: ignore[no-any-return]


def _auto(source: Source, speaks: bool) -> Any:  # noqa: FBT001
    speaker = AutoModelForCausalLM if source.is_decoder else AutoModelForMaskedLM
    return speaker if speaks else AutoModelForSequenceClassification


def empty_model(source: Source, num_labels: int, *, speaks: bool = False, layers: int = 1) -> nn.Module:
    """The first layers of the architecture, without weights: one is enough to see whether a method attaches to it."""
    config = _config(source, num_labels, dropout=None)
    config.num_hidden_layers = layers
    with torch.device("meta"):
        model: nn.Module = _auto(source, speaks).from_config(config)
    return _named(model, source, [])


def linear_weights(source: Source, num_labels: int, *, speaks: bool = False) -> int:
    """About how many numbers the matrices of all layers hold: those of the first layer for each of them."""
    first = empty_model(source, num_labels, speaks=speaks)
    return source.num_layers * sum(part.weight.numel() for part in first.modules() if type(part) is nn.Linear)


def _named(model: nn.Module, source: Source, missing: list[str]) -> nn.Module:
    """Note where the model comes from, and which of its modules the checkpoint lacks: they are new for the task."""
    model.config.name_or_path = source.location  # type: ignore[union-attr]
    if type(model).__name__.endswith("ForMaskedLM"):
        model.new_modules = new_parts(missing, source.location)  # type: ignore[assignment]
        return at_mask(model)
    model.new_modules = ("pooler",) if any(".pooler." in key for key in missing) else ()  # type: ignore[assignment]
    return model


def _config(source: Source, num_labels: int, dropout: float | None) -> PretrainedConfig:
    given = {key: value for key, value in source.config.items() if key != "model_type"}
    if dropout is not None:
        given |= dict.fromkeys(source.architecture.dropout, dropout)
    config = AutoConfig.for_model(source.model_type, **{**given, "num_labels": num_labels})
    if config.pad_token_id is None:  # a decoder's classifier looks for the last token that is not this one
        end = config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end
    return config
