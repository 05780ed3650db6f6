"""Texts that a language model could predict before it was trained on a task: what it retains of that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench.tasks.encoding.rows import Rows, end_to_end, rows_of
from bench.tasks.encoding.token_cache import cached, tokenizer_hash
from bench.tasks.loaders.texts import hash_of, read_texts
from bench.tasks.outputs import Continuation

AT_ONCE = 8  # texts: every position gets logits for the whole vocabulary


@dataclass(frozen=True)
class Retained:
    """rows: the texts, all tokens but the first predicted. source: their hash. before: the loss of the model as it
    was, in nats per token; None where it is not finite.
    """

    rows: Rows
    source: str
    before: float | None = None

    def loss(self, found: Tensor) -> Tensor:
        """Mean cross-entropy, in nats per token. found: [..., texts], each one's mean log-likelihood; gives [...]."""
        tokens = self.rows.lengths - 1
        return -(found.double() * tokens).sum(-1) / tokens.sum()

    def known(self, found: Tensor) -> "Retained":
        """With what the model as it was made of the texts: [texts]."""
        return replace(self, before=finite(self.loss(found)))

    def told(self, found: Tensor) -> dict[str, Any]:
        """What the record of a trial says of it. found: [texts], by the trained model."""
        tokens = int((self.rows.lengths - 1).sum())
        return {"before": self.before, "after": finite(self.loss(found)), "tokens": tokens, "texts": self.source}


def finite(loss: Tensor) -> float | None:
    """The number, where it is one."""
    value = float(loss)
    return value if math.isfinite(value) else None


def retained(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, cache: Path) -> Retained:
    """Tokenise the texts, each cut to max_length, or read them back. ValueError: there is nothing to predict."""
    texts = read_texts(path)
    arrays = cached(
        "retained",
        [tokenizer_hash(tokenizer), max_length, texts],
        cache,
        lambda: _tokens(texts, tokenizer, max_length),
    )
    sizes = arrays["lengths"]
    if not len(sizes):
        raise ValueError(f"retain={path} has no text of two tokens or more, so there is nothing to predict")
    rows = rows_of(arrays, [0] * len(sizes), tokenizer, read=Continuation())
    return Retained(replace(rows, answer=rows.lengths - 1), hash_of(texts))


def _tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, np.ndarray]:
    found = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    kept = [row for row in found if len(row) > 1]
    return end_to_end(kept) if kept else {"ids": np.zeros(0, int), "lengths": np.zeros(0, int)}
