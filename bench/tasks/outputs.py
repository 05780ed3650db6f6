"""How a model's output is read: the loss that a batch is trained by, and the answer that it gives to each row.

Every function takes the model's logits in fp32 and the batch that they belong to.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase


class Shown(Protocol):
    """What a reading sees of a batch (train/batches.py)."""

    @property
    def input_ids(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def answer(self) -> Tensor | None: ...

    @property
    def options(self) -> Tensor | None: ...


class OutputReader(ABC):
    """What is the loss of a batch, and what are its answers. Training and evaluation may read differently."""

    def keep(self, answer: Tensor | None) -> int | None:  # noqa: ARG002
        """At how many of the last positions a language model gives logits; None where it is none.

        answer: [rows], tokens of each answer.
        """
        return None

    def weight(self, batch: Shown) -> Tensor:
        """How much the loss of a batch counts beside that of another: over how many rows (or tokens) it is the mean."""
        return torch.ones_like(batch.labels, dtype=torch.float32).sum(-1)

    @abstractmethod
    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """One number."""

    @abstractmethod
    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """Of each row: [rows]."""

    @abstractmethod
    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Answer and loss of each row: [rows, 2], fp32. The loss is what rates and checkpoints are judged by: the
        cross-entropy among what there is to choose from, or a squared error. `Rows.judged` says what they mean.
        """


class Choosing(OutputReader):
    """A reading that compares what there is to choose from."""

    @abstractmethod
    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """Of each label or option, before a softmax: [rows, options], -inf for those that a row does not have."""

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """The likeliest, by its number: [rows], int64."""
        return self.scores(logits, batch).argmax(-1)

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """The likeliest, and the cross-entropy of the right one."""
        scores = self.scores(logits, batch)
        losses = nn.functional.cross_entropy(scores, batch.labels, reduction="none")
        return torch.stack([scores.argmax(-1).float(), losses], -1)


@dataclass(frozen=True)
class Head(Choosing):
    """The output of the task's head: a logit per label, or one number. logits: [rows, labels or 1]."""

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Mean cross-entropy; mean squared error where the labels are numbers."""
        if batch.labels.is_floating_point():
            return nn.functional.mse_loss(logits.squeeze(-1), batch.labels)
        return nn.functional.cross_entropy(logits, batch.labels)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """The logits."""
        return _of_options(logits, batch)

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """The likeliest label, int64, or the number, fp32."""
        return logits.squeeze(-1) if logits.shape[-1] == 1 else super().answers(logits, batch)

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """Of a number the squared error."""
        if not batch.labels.is_floating_point():
            return super().judge(logits, batch)
        found = logits.squeeze(-1)
        return torch.stack([found, (found - batch.labels) ** 2], -1)


HEAD = Head()


@dataclass(frozen=True)
class Continuation(OutputReader):
    """The last tokens of each row, predicted one by one. logits: [rows, positions, vocabulary], of the last positions,
    one more than the longest answer has tokens.
    """

    def keep(self, answer: Tensor | None) -> int:
        """Those that predict the answers, and the last."""
        return int(cast("Tensor", answer).max()) + 1

    def weight(self, batch: Shown) -> Tensor:
        """Tokens of the answers."""
        return cast("Tensor", batch.answer).sum(-1).float()

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Mean cross-entropy over the tokens of all answers in the batch."""
        losses, counted = self._of_tokens(logits, batch)
        return (losses * counted).sum() / counted.sum()

    def answers(self, logits: Tensor, batch: Shown) -> Tensor:
        """The mean log-likelihood of each row's answer, by token."""
        losses, counted = self._of_tokens(logits, batch)
        return -(losses * counted).sum(-1) / counted.sum(-1)

    def judge(self, logits: Tensor, batch: Shown) -> Tensor:
        """The mean log-likelihood, and less it."""
        found = self.answers(logits, batch)
        return torch.stack([found, -found], -1)

    def _of_tokens(self, logits: Tensor, batch: Shown) -> tuple[Tensor, Tensor]:
        tokens = logits.shape[-2] - 1
        wanted = batch.input_ids[..., -tokens:]
        losses = nn.functional.cross_entropy(logits[..., :-1, :].flatten(0, -2), wanted.flatten(), reduction="none")
        from_end = torch.arange(tokens, 0, -1, device=wanted.device)
        return losses.view(wanted.shape), from_end <= cast("Tensor", batch.answer)[..., None]


@dataclass(frozen=True)
class Letters(Choosing):
    """The letters of the options, compared as the next token. ids: of each letter. logits: [rows, 1, vocabulary]."""

    ids: tuple[int, ...]

    def keep(self, answer: Tensor | None) -> int:  # noqa: ARG002
        """The last alone."""
        return 1

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Mean cross-entropy of the right letter among all tokens."""
        wanted = torch.tensor(self.ids, device=logits.device)[batch.labels]
        return nn.functional.cross_entropy(logits[..., -1, :], wanted)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """The letters' logits."""
        return _of_options(logits[..., -1, list(self.ids)], batch)


@dataclass(frozen=True)
class Reasoned(Letters):
    """Letters that come after a thought: the model writes on until `limit` tokens, then reads the `conclusion`.

    `logits` are those behind it. tokenizer: as the model's.
    """

    tokenizer: PreTrainedTokenizerBase
    limit: int
    conclusion: tuple[int, ...]


@dataclass(frozen=True)
class OneOf(Choosing):
    """A number for each option, compared. each: options beside one another. logits: [rows * each, 1]."""

    each: int

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Mean cross-entropy of the right option."""
        return nn.functional.cross_entropy(self.scores(logits, batch), batch.labels)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:
        """The options' numbers."""
        return _of_options(logits.view(-1, self.each), batch)


@dataclass(frozen=True)
class Masked(Choosing):
    """A word for each label, compared in place of the mask. ids: of each word. logits: [rows, vocabulary], there."""

    ids: tuple[int, ...]

    def loss(self, logits: Tensor, batch: Shown) -> Tensor:
        """Mean cross-entropy of the right word among those of all labels."""
        return nn.functional.cross_entropy(self.scores(logits, batch), batch.labels)

    def scores(self, logits: Tensor, batch: Shown) -> Tensor:  # noqa: ARG002
        """The words' logits."""
        return logits[..., list(self.ids)]


def _of_options(scores: Tensor, batch: Shown) -> Tensor:
    """The scores of the options that each row has; the others have no chance. scores: [rows, options]."""
    if batch.options is None:
        return scores
    there = torch.arange(scores.shape[-1], device=scores.device) < batch.options[..., None]
    return scores.masked_fill(~there, -torch.inf)
