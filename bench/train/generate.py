"""What a language model writes by itself after each prompt, the likeliest token each time."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from bench.tasks.encoding.written import Written
from bench.tasks.outputs import Reasoned
from bench.train.batches import Batch, masked


def written(model: nn.Module, batch: Batch, read: Written) -> Tensor:
    """Answers that are written out: [rows, tokens]."""
    return _go_on(model, batch, read.tokenizer, read.limit)


def concluded(model: nn.Module, batch: Batch, read: Reasoned) -> Tensor:
    """The logits behind a thought of the model's own and the words that end it: [rows, 1, vocabulary]."""
    thought, pad = _go_on(model, batch, read.tokenizer, read.limit), read.tokenizer.pad_token_id
    ends = {pad, read.tokenizer.eos_token_id}
    mask = masked(batch)
    rows = []
    for prompt, real, more in zip(batch.input_ids.tolist(), mask.tolist(), thought.tolist(), strict=True):
        stop = next((place for place, token in enumerate(more) if token in ends), len(more))
        rows.append(
            [token for token, kept in zip(prompt, real, strict=True) if kept] + more[:stop] + [*read.conclusion]
        )
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=batch.input_ids.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    kept = torch.arange(longest, 0, -1, device=ids.device) <= lengths[:, None]
    logits: Tensor = model(input_ids=ids, attention_mask=kept.long(), logits_to_keep=1).logits
    return logits.float()


def _go_on(model: nn.Module, batch: Batch, tokenizer: PreTrainedTokenizerBase, limit: int) -> Tensor:
    """The tokens that come after each row, at most so many: [rows, tokens]."""
    writer: Any = model
    found: Tensor = writer.generate(
        input_ids=batch.input_ids,
        attention_mask=masked(batch),
        max_new_tokens=limit,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return found[:, batch.input_ids.shape[1] :]
