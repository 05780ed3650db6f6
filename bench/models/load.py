"""The backbone with a classification head, and its tokenizer."""

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from bench.models.source import Source


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model."""
    return AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)


def load_model(
    source: Source, num_labels: int, *, seed: int, attention: str, dropout: float | None = None
) -> nn.Module:
    """Load a backbone in fp32; the head, and random weights where those are asked for, are drawn from `seed`.

    attention: transformers' name of the attention implementation. dropout: None keeps the model's own.
    """
    torch.manual_seed(seed)
    config = _config(source, num_labels, dropout)
    model: nn.Module
    if source.random:
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            source.location,
            config=config,
            revision=source.revision,
            attn_implementation=attention,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    return model


def empty_model(source: Source, num_labels: int) -> nn.Module:
    """The first layer of the architecture, without weights: enough to see whether a method attaches to it."""
    config = _config(source, num_labels, dropout=None)
    config.num_hidden_layers = 1
    with torch.device("meta"):
        model: nn.Module = AutoModelForSequenceClassification.from_config(config)
    return model


def _config(source: Source, num_labels: int, dropout: float | None) -> PretrainedConfig:
    architecture = {key: value for key, value in source.architecture.items() if key != "model_type"}
    if dropout is not None:
        architecture |= dict.fromkeys(
            ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), dropout
        )
    return AutoConfig.for_model(source.model_type, **{**architecture, "num_labels": num_labels})
