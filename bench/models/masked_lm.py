"""A masked language model that is read at one position of each row: the vocabulary is wide."""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput

from bench.models.class_swap import mix_in
from bench.models.structure import architecture

NEW = "transform"  # the part of BERT's that a checkpoint without the whole lacks; the words' own vectors are never new


def at_mask(model: nn.Module) -> nn.Module:
    """Let the model give logits where it is told to."""
    mix_in(model, _AtMask)
    return model


class _AtMask(nn.Module):
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        *,
        from_end: Tensor,
        **_: Any,
    ) -> MaskedLMOutput:
        """input_ids: [rows, length]. from_end: [rows], how many tokens before the end, padding and all, each row is
        read: virtual tokens go before. Gives logits [rows, vocabulary].
        """
        backbone: Any = self.base_model
        hidden: Tensor = backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
        )[0]
        read = hidden.take_along_dim((hidden.shape[1] - from_end)[:, None, None], 1)[:, 0]
        head: Any = self.get_submodule(str(architecture(self).masked_head))
        return MaskedLMOutput(logits=head(read))


def new_parts(missing: list[str], location: str) -> tuple[str, ...]:
    """What of the masked head a checkpoint lacks, and is new. missing: names of its tensors that are not there.

    ValueError: it lacks one that cannot be made anew.
    """
    if any(key.startswith("lm_head.") for key in missing):
        raise ValueError(
            f"model {location} was saved without its masked head, which task.form=mask needs; use task.form=head, "
            "or a checkpoint that has it"
        )
    return (NEW,) if any(f".{NEW}." in key for key in missing) else ()
