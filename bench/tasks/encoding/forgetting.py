"""Measure forgetting: how well a language model still predicts other texts after training on a task."""

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

AT_ONCE = 8  # texts per batch; small because every position has logits for the whole vocabulary


@dataclass(frozen=True)
class Retained:
    """Texts on which forgetting is measured.

    Attributes:
        rows: the encoded texts. All tokens but the first are predicted.
        source: hash of the texts.
        before: loss of the model before training, in nats per token. None if it is not finite.
    """

    rows: Rows
    source: str
    before: float | None = None

    def loss(self, log_likelihoods: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats per token.

        Args:
            log_likelihoods: [..., texts], mean log-likelihood per token of each text.

        Returns:
            [...].
        """
        tokens = self.rows.lengths - 1
        return -(log_likelihoods.double() * tokens).sum(-1) / tokens.sum()

    def known(self, log_likelihoods: Tensor) -> "Retained":
        """Return a copy with the loss before training.

        Args:
            log_likelihoods: [texts], mean log-likelihood per token of each text under the model before training.
        """
        return replace(self, before=finite(self.loss(log_likelihoods)))

    def entry(self, log_likelihoods: Tensor) -> dict[str, Any]:
        """Return the entry for a trial's record.

        Args:
            log_likelihoods: [texts], mean log-likelihood per token of each text under the trained model.

        Returns:
            Losses `before` and `after` training in nats per token, None if not finite; the number of predicted
            `tokens`; and `texts`, the hash of the texts.
        """
        tokens = int((self.rows.lengths - 1).sum())
        after = finite(self.loss(log_likelihoods))
        return {"before": self.before, "after": after, "tokens": tokens, "texts": self.source}


def finite(loss: Tensor) -> float | None:
    """Return the loss as a number; None if it is not finite."""
    value = float(loss)
    return value if math.isfinite(value) else None


def retained(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, cache: Path) -> Retained:
    """Tokenise the texts of a file, or read them from the cache.

    Args:
        path: file of texts, as read by `read_texts`.
        tokenizer: the model's tokenizer.
        max_length: number of tokens to which each text is cut.
        cache: folder of the token cache.

    Raises:
        ValueError: the file has no texts, or none with two tokens or more, so there is nothing to predict.
    """
    texts = read_texts(path)
    arrays = cached(
        "retained",
        [tokenizer_hash(tokenizer), max_length, texts],
        cache,
        lambda: _tokens(texts, tokenizer, max_length),
    )
    lengths = arrays["lengths"]
    if not len(lengths):
        raise ValueError(f"retain={path} has no text of two tokens or more, so there is nothing to predict")
    rows = rows_of(arrays, [0] * len(lengths), tokenizer, read=Continuation())
    return Retained(replace(rows, answer=rows.lengths - 1), hash_of(texts))


def _tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, np.ndarray]:
    """Encode the texts, without those that have fewer than two tokens."""
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    kept = [row for row in ids if len(row) > 1]
    return end_to_end(kept) if kept else {"ids": np.zeros(0, int), "lengths": np.zeros(0, int)}
