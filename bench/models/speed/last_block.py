"""The last block at the one position that is read: BERT's classifiers look at the first token and at no other.

Its keys and values are still those of all positions. Exact: what is left out is never used.
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
        """hidden_states: [rows, length, width]; gives [rows, 1, width]."""
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
    """Switch the last block over, where the architecture is known to read the first position; says whether it is."""
    base: Any = plain_model(model)
    classifies = type(base).__name__.endswith("ForSequenceClassification")
    if not (classifies and architecture(base).reads_first) or base.config._attn_implementation != NAME:  # noqa: SLF001
        return False
    attention: Any = blocks(base)[-1].attention
    if not isinstance(attention, _First):
        mix_in(attention, _First)
    return True


def compute_all_tokens(model: nn.Module) -> None:
    """Switch it back."""
    for module in model.modules():
        if isinstance(module, _First):
            swap_back(module)
