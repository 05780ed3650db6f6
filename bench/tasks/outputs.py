"""Read a model's output: the training loss of a batch, and the answer to each of its rows.

Every function takes the model's fp32 logits and the batch they were computed for.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase


class Shown(Protocol):
    """The part of a batch that an output reader uses (train/batches.py)."""

    @property
    def input_ids(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def answer(self) -> Tensor | None: ...

    @property
    def options(self) -> Tensor | None: ...


class OutputReader(ABC):
    """Turns logits into a loss and into answers. Training and evaluation may use different readers."""

    def keep(self, answer: Tensor | None) -> int | None:  # noqa: ARG002
        """Return at how many of the last positions a language model computes logits.

        Args:
            answer: [rows], number of tokens in each answer.

        Returns:
            The number of positions; None if the model is not a language model.
        """
        return None

    def weight(self, batch: Shown) -> Tensor:
        """Return the weight of a batch's loss relative to other batches: the rows or tokens that it averages over."""
        return torch.ones_like(batch.labels, dtype=torch.float32).sum(-1)

    @abstractmethod
    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the loss of the batch, a scalar."""

    @abstractmethod
    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the answer to each row: [rows]."""

    @abstractmethod
    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the answer and the loss of each row.

        Learning rates and checkpoints are selected by this loss. `Rows.judged` interprets the result.

        Returns:
            [rows, 2], fp32. The loss is the cross-entropy over the available choices, or a squared error.
        """


class Choosing(OutputReader):
    """A reader that compares a fixed set of choices."""

    @abstractmethod
    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the score of each label or option before a softmax: [rows, options].

        Options that a row does not have score -inf.
        """

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the index of the highest-scoring choice: [rows], int64."""
        return self.scores(logits, batch).argmax(-1)

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the index of the highest-scoring choice and the cross-entropy of the correct one: [rows, 2]."""
        scores = self.scores(logits, batch)
        losses = nn.functional.cross_entropy(scores, batch.labels, reduction="none")
        return torch.stack([scores.argmax(-1).float(), losses], -1)


@dataclass(frozen=True)
class Head(Choosing):
    """Reads the task's head: one logit per label, or one number. Logits are [rows, labels or 1]."""

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean cross-entropy, or the mean squared error if the labels are numbers."""
        if batch.labels.is_floating_point():
            return nn.functional.mse_loss(logits.squeeze(-1), batch.labels)
        return nn.functional.cross_entropy(logits, batch.labels)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the logits, with -inf for options that a row does not have: [rows, labels]."""
        return _of_options(logits, batch)

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the most likely label (int64) or the predicted number (fp32): [rows]."""
        return logits.squeeze(-1) if logits.shape[-1] == 1 else super().answers(logits, batch)

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the answer and its loss, which is the squared error for a number: [rows, 2]."""
        if not batch.labels.is_floating_point():
            return super().judge(logits, batch)
        predictions = logits.squeeze(-1)
        return torch.stack([predictions, (predictions - batch.labels) ** 2], -1)


HEAD = Head()


@dataclass(frozen=True)
class Continuation(OutputReader):
    """Predicts the last tokens of each row one by one.

    Logits are [rows, positions, vocabulary]. They cover the last positions, one more than the longest answer has
    tokens.
    """

    def keep(self, answer: Tensor | None) -> int:
        """Return the number of positions that predict the longest answer, plus one for the last position."""
        return int(cast("Tensor", answer).max()) + 1

    def weight(self, batch: Shown) -> Tensor:
        """Return the number of answer tokens in the batch, fp32."""
        return cast("Tensor", batch.answer).sum(-1).float()

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean cross-entropy over the tokens of all answers in the batch."""
        losses, counted = self._of_tokens(logits, batch)
        return (losses * counted).sum() / counted.sum()

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean log-likelihood per token of each row's answer: [rows]."""
        losses, counted = self._of_tokens(logits, batch)
        return -(losses * counted).sum(-1) / counted.sum(-1)

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean log-likelihood per token and its negative: [rows, 2]."""
        log_likelihoods = self.answers(logits, batch)
        return torch.stack([log_likelihoods, -log_likelihoods], -1)

    def _of_tokens(self, logits: Tensor, batch: Shown) -> tuple[Tensor, Tensor]:
        """Return the loss of each token, and whether it belongs to the answer: both [rows, tokens]."""
        tokens = logits.shape[-2] - 1
        targets = batch.input_ids[..., -tokens:]
        losses = nn.functional.cross_entropy(logits[..., :-1, :].flatten(0, -2), targets.flatten(), reduction="none")
        from_end = torch.arange(tokens, 0, -1, device=targets.device)
        return losses.view(targets.shape), from_end <= cast("Tensor", batch.answer)[..., None]


@dataclass(frozen=True)
class Letters(Choosing):
    """Compares the letters of the options as the next token. Logits are [rows, 1, vocabulary].

    Attributes:
        ids: token id of each letter.
    """

    ids: tuple[int, ...]

    def keep(self, answer: Tensor | None) -> int:  # noqa: ARG002
        """Return 1: only the last position is read."""
        return 1

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean cross-entropy of the correct letter among all tokens of the vocabulary."""
        targets = torch.tensor(self.ids, device=logits.device)[batch.labels]
        return nn.functional.cross_entropy(logits[..., -1, :], targets)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the logits of the letters at the last position: [rows, letters]."""
        return _of_options(logits[..., -1, list(self.ids)], batch)


@dataclass(frozen=True)
class Reasoned(Letters):
    """Reads the letter after the model has reasoned in free text.

    The model writes up to `limit` tokens of reasoning, and the `conclusion` is then appended. Logits are those that
    follow the conclusion.

    Attributes:
        tokenizer: the model's tokenizer.
        limit: maximum number of reasoning tokens.
        conclusion: token ids that are appended to the reasoning.
    """

    tokenizer: PreTrainedTokenizerBase
    limit: int
    conclusion: tuple[int, ...]


@dataclass(frozen=True)
class OneOf(Choosing):
    """Compares one score per option. Logits are [rows * each, 1].

    Attributes:
        each: number of options that are encoded for every row.
    """

    each: int

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean cross-entropy of the correct option."""
        return nn.functional.cross_entropy(self.scores(logits, batch), batch.labels)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the score of each option, -inf for options that a row does not have: [rows, each]."""
        return _of_options(logits.view(-1, self.each), batch)


@dataclass(frozen=True)
class Masked(Choosing):
    """Compares one word per label at the position of the mask. Logits are [rows, vocabulary] at that position.

    Attributes:
        ids: token id of each label's word.
    """

    ids: tuple[int, ...]

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Return the mean cross-entropy of the correct word among the words of all labels."""
        return nn.functional.cross_entropy(self.scores(logits, batch), batch.labels)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:  # noqa: ARG002
        """Return the logits of the words: [rows, labels]."""
        return logits[..., list(self.ids)]


def _of_options(scores: Tensor, batch: Shown) -> Tensor:
    """Set the scores of options that a row does not have to -inf. scores: [rows, options]."""
    if batch.options is None:
        return scores
    available = torch.arange(scores.shape[-1], device=scores.device) < batch.options[..., None]
    return scores.masked_fill(~available, -torch.inf)
