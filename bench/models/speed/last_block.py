"""Compute the last block only at the first token, the only position that BERT's classifiers read.

Its keys and values are still computed at all positions. The result is exact: the skipped outputs are never used.
"""

from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache

from bench.models.class_swap import mix_in, swap_back
from bench.models.structure import architecture, blocks, plain_model
from bench.models.vmap.attention import NAME, attend


class _First(nn.Module):
    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,  # noqa: ARG002 - an encoder has none
        encoder_attention_mask: Tensor | None = None,  # noqa: ARG002
        past_key_values: Any = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Compute the attention's output at the first token: [rows, length, width] to [rows, 1, width]."""
        inner: Any = self.self
        first = hidden_states[:, :1]

        def heads(x: Tensor) -> Tensor:
            return x.view(*x.shape[:-1], -1, inner.attention_head_size).transpose(1, 2)

        query, key, value = (
            heads(inner.query(first)),
            heads(inner.key(hidden_states)),
            heads(inner.value(hidden_states)),
        )
        if past_key_values is not None:  # prefixes
            cache = past_key_values
            if isinstance(cache, EncoderDecoderCache):
                cache = cache.self_attention_cache
            key, value = cache.update(key, value, inner.layer_idx)
        mask: Tensor | None = None if attention_mask is None else attention_mask[:, :, :1]
        dropout = inner.dropout.p if self.training else 0.0
        attended, weights = attend(inner, query, key, value, mask, dropout, inner.scaling, is_causal=False)
        output: Any = self.output
        return output(attended.flatten(2), first), weights


def compute_first_token(model: nn.Module) -> bool:
    """Compute the last block only at the first token, if the model's head reads no other.

    Args:
        model: A model, possibly wrapped by PEFT. Changed in place.

    Returns:
        Whether the block was switched over. The model must be a sequence classifier whose architecture reads the first
        token, with this package's attention.
    """
    base: Any = plain_model(model)
    classifies = type(base).__name__.endswith("ForSequenceClassification")
    if not (classifies and architecture(base).reads_first) or base.config._attn_implementation != NAME:  # noqa: SLF001
        return False
    attention: Any = blocks(base)[-1].attention
    if not isinstance(attention, _First):
        mix_in(attention, _First)
    return True


def compute_all_tokens(model: nn.Module) -> None:
    """Compute the last block at all positions again, undoing `compute_first_token`."""
    for module in model.modules():
        if isinstance(module, _First):
            swap_back(module)
