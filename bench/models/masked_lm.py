"""Read a masked language model at one position of each row: logits over the vocabulary are large."""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput

from bench.models.class_swap import mix_in
from bench.models.structure import architecture

# The part of BERT's masked head that a checkpoint may lack. The word embeddings are never new.
NEW = "transform"


def at_mask(model: nn.Module) -> nn.Module:
    """Make the model compute logits only at the positions that its caller names. Return the same model."""
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
        """Compute the logits at one position of each row.

        The position is counted from the end because virtual tokens are put in front.

        Args:
            input_ids: [rows, length].
            attention_mask: [rows, length], with the prefix if there is one.
            token_type_ids: [rows, length].
            inputs_embeds: [rows, length, width], instead of `input_ids`.
            past_key_values: Keys and values of a prefix.
            from_end: [rows]. The distance of the position from the end of the padded row, in tokens.

        Returns:
            An output with logits [rows, vocabulary].
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
    """Return the parts of the masked head that a checkpoint lacks and that are therefore new.

    Args:
        missing: Names of the tensors that the checkpoint lacks.
        location: The model's folder or repository, for the message.

    Returns:
        Names of modules, possibly none.

    Raises:
        ValueError: The checkpoint lacks a part that cannot be drawn anew.
    """
    if any(key.startswith("lm_head.") for key in missing):
        raise ValueError(
            f"model {location} was saved without its masked head, which task.form=mask needs; use task.form=head, "
            "or a checkpoint that has it"
        )
    return (NEW,) if any(f".{NEW}." in key for key in missing) else ()
