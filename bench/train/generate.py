"""Generate text with a language model after each prompt, by greedy decoding."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from bench.tasks.encoding.written import Written
from bench.tasks.outputs import Reasoned
from bench.train.batches import Batch, masked


def written(model: nn.Module, batch: Batch, read: Written) -> Tensor:
    """Return the token ids of generated answers, [rows, tokens].

    Args:
        model: The language model.
        batch: The prompts.
        read: Has the tokenizer and the maximum number of generated tokens.
    """
    return _generate(model, batch, read.tokenizer, read.limit)


def concluded(model: nn.Module, batch: Batch, read: Reasoned) -> Tensor:
    """Generate reasoning after each prompt, append the conclusion, and return the logits after it.

    Args:
        model: The language model.
        batch: The prompts.
        read: Has the tokenizer, the maximum number of generated tokens, and the tokens of the conclusion.

    Returns:
        Logits in fp32, [rows, 1, vocabulary].
    """
    reasoning, pad = _generate(model, batch, read.tokenizer, read.limit), read.tokenizer.pad_token_id
    ends = {pad, read.tokenizer.eos_token_id}
    mask = masked(batch)
    rows = []
    for prompt, real, generated in zip(batch.input_ids.tolist(), mask.tolist(), reasoning.tolist(), strict=True):
        stop = next((place for place, token in enumerate(generated) if token in ends), len(generated))
        rows.append(
            [token for token, kept in zip(prompt, real, strict=True) if kept] + generated[:stop] + [*read.conclusion]
        )
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=batch.input_ids.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    kept = torch.arange(longest, 0, -1, device=ids.device) <= lengths[:, None]
    logits: Tensor = model(input_ids=ids, attention_mask=kept.long(), logits_to_keep=1).logits
    return logits.float()


def _generate(model: nn.Module, batch: Batch, tokenizer: PreTrainedTokenizerBase, limit: int) -> Tensor:
    """The tokens generated after each row, at most `limit` of them: [rows, tokens]."""
    generator: Any = model
    tokens: Tensor = generator.generate(
        input_ids=batch.input_ids,
        attention_mask=masked(batch),
        max_new_tokens=limit,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokens[:, batch.input_ids.shape[1] :]
