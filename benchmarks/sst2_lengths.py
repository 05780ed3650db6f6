"""Texts with the lengths of SST-2's phrases, or of one length, cut from the embedded reviews."""

from itertools import cycle

import numpy as np

from bench.tasks.base import Split

# Every fifth percentile of the number of words in SST-2's 67,349 training phrases.
WORDS = [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 18, 21, 26, 52]


def phrases(reviews: Split, rows: int) -> Split:
    """Return `rows` texts with the labels of the reviews, which are repeated as often as needed."""
    words = " ".join(reviews.texts).split()
    lengths = np.interp(np.random.default_rng(0).random(rows), np.linspace(0, 1, len(WORDS)), WORDS).round().astype(int)
    ends = np.cumsum(lengths)
    words *= -(-int(ends[-1]) // len(words))
    texts = [" ".join(words[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    return Split(texts, [label for label, _ in zip(cycle(reviews.labels), texts, strict=False)])


def long_texts(reviews: Split, rows: int, tokens: int) -> Split:
    """Return `rows` texts of at least `tokens` tokens: a word has one or more tokens."""
    words = " ".join(reviews.texts).split()
    starts = np.random.default_rng(0).integers(0, len(words) - tokens, rows)
    texts = [" ".join(words[start : start + tokens]) for start in starts]
    return Split(texts, [number % 2 for number in range(rows)])
