"""Load a backbone with a classification head, or as a language model, and load its tokenizer."""

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
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns about optional kernels on every CPU


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a model.

    The tokenizer of a decoder pads on the left, so that the last token of a text is the last one of its row.

    Args:
        source: The model.

    Raises:
        ValueError: There is no tokenizer, it cannot be read, or it does not belong to the model.
    """
    check_files(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing more specific
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"the tokenizer of {source.location} cannot be loaded ({reason})") from error
    if source.is_decoder:
        tokenizer.padding_side = "left"
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # a Llama has no token types
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
    """Load a backbone in fp32, with a classification head or as a language model.

    Random weights are the same for every seed: they stand in for a checkpoint that all trials share.

    Args:
        source: The model.
        num_labels: Outputs of the classification head.
        seed: The head is drawn from it. A language model has no head.
        speaks: Load a causal or masked language model, whose outputs are words instead of labels.
        attention: The attention implementation's name in transformers.
        dropout: Probability of every dropout. None keeps the model's own.
        quant: How the base's matrices are stored. None for fp32.
        device: The device on which a quantised base is created, and stays. None for the CPU.
    """
    torch.manual_seed(0 if source.random else seed)
    config = _make_config(source, num_labels, dropout)
    arguments: dict[str, Any] = {"attn_implementation": attention}
    auto = _auto_class(source, speaks)
    loader: Any
    if source.random:
        model = _redraw_head(auto.from_config(config, **arguments), seed)
        if quant is None:
            return _with_origin(model, source, [])
        loader, location, arguments = type(model), None, arguments | {"state_dict": model.state_dict()}
    else:
        loader, location = auto, source.location
        arguments |= {"revision": source.revision, "use_safetensors": True}
    if quant is not None:
        quantization = quant.settings(_never_quantised(source))
        arguments |= {"quantization_config": quantization, "device_map": {"": device or "cpu"}}
    model, info = loader.from_pretrained(
        location, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True, **arguments
    )
    return _with_origin(map_over_trials(keep_gradients(model)), source, info["missing_keys"])


def _never_quantised(source: Source) -> list[str]:
    """Name the modules above the backbone: the trained ones and the one that computes the logits."""
    return [*source.architecture.head, ".*pooler", source.architecture.masked_head or "lm_head"]


def _redraw_head(model: Any, seed: int) -> nn.Module:
    """Draw the weights of the task's head again, from the seed."""
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if name in head_names(model):
            for parameter in module.parameters():
                parameter._is_hf_initialized = False  # noqa: SLF001 - else transformers would not draw it again
            module.apply(model._init_weights)  # noqa: SLF001
    return model  # type: ignore[no-any-return]


def _auto_class(source: Source, speaks: bool) -> Any:  # noqa: FBT001
    language_model = AutoModelForCausalLM if source.is_decoder else AutoModelForMaskedLM
    return language_model if speaks else AutoModelForSequenceClassification


def empty_model(source: Source, num_labels: int, *, speaks: bool = False, layers: int = 1) -> nn.Module:
    """Build the first layers of a model without weights.

    One layer is enough to see whether a method attaches to the architecture.

    Args:
        source: The model.
        num_labels: Outputs of the classification head.
        speaks: Build a language model instead of a classifier.
        layers: How many transformer blocks to build.

    Returns:
        The model, on the meta device.
    """
    config = _make_config(source, num_labels, dropout=None)
    config.num_hidden_layers = layers
    with torch.device("meta"):
        model: nn.Module = _auto_class(source, speaks).from_config(config)
    return _with_origin(model, source, [])


def linear_weights(source: Source, num_labels: int, *, speaks: bool = False) -> int:
    """Estimate how many numbers the linear layers of all blocks hold.

    Args:
        source: The model.
        num_labels: Outputs of the classification head.
        speaks: Whether it is a language model instead of a classifier.

    Returns:
        The count for a model of one block times the number of blocks.
    """
    first_block = empty_model(source, num_labels, speaks=speaks)
    linear_layers = [module for module in first_block.modules() if type(module) is nn.Linear]
    return source.num_layers * sum(layer.weight.numel() for layer in linear_layers)


def _with_origin(model: nn.Module, source: Source, missing: list[str]) -> nn.Module:
    """Store in the model where it comes from and which modules its checkpoint lacks. These are new for the task."""
    model.config.name_or_path = source.location  # type: ignore[union-attr]
    if type(model).__name__.endswith("ForMaskedLM"):
        model.new_modules = new_parts(missing, source.location)  # type: ignore[assignment]
        return at_mask(model)
    model.new_modules = ("pooler",) if any(".pooler." in key for key in missing) else ()  # type: ignore[assignment]
    return model


def _make_config(source: Source, num_labels: int, dropout: float | None) -> PretrainedConfig:
    settings = {key: value for key, value in source.config.items() if key != "model_type"}
    if dropout is not None:
        settings |= dict.fromkeys(source.architecture.dropout, dropout)
    config = AutoConfig.for_model(source.model_type, **{**settings, "num_labels": num_labels})
    if config.pad_token_id is None:  # a decoder's classifier reads the last token that is not padding
        end = config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end
    if config.pad_token_id is None and source.is_decoder:
        raise ValueError(
            f"the configuration of {source.label} has neither pad_token_id nor eos_token_id, so the end of a text is "
            "unknown; set pad_token_id in its config.json (with random weights: in model.architecture)"
        )
    return config
