"""Turn texts into token ids. They are cached on disk by content, so each text is tokenised once for all cells."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench.tasks.base import PARTS, Split, Task, others
from bench.tasks.encoding.characters import check_characters
from bench.tasks.encoding.token_cache import cached, tokenizer_hash
from bench.tasks.outputs import HEAD, OutputReader


@dataclass(frozen=True)
class Rows:
    """Encoded rows, concatenated without padding.

    Attributes:
        ids: [tokens] int64.
        starts: [rows * each] int64, where each sequence begins in `ids`.
        lengths: [rows * each] int64, number of tokens of each sequence.
        labels: [rows] int64, or fp32 if a number is predicted.
        pad_id: token id of the padding.
        pad_left: whether padding goes before a row, so that its last token stays at the end.
        multiple: batches are padded to a multiple of this many tokens. Larger values give fewer distinct lengths at the
            cost of more padding.
        types: [tokens] int64, which of two texts a token belongs to. None if each row is a single text.
        answer: [rows] int64, number of tokens at the end of a row that a language model predicts. None if it predicts
            none.
        options: [rows] int64, number of options to choose from. None if every row has the same number.
        mask: [rows] int64, position of the mask counted from the end of the row, where the last token is 1. None if
            rows have no mask.
        group: [rows] int64, non-decreasing, the question that a row is an option of. None if each row is a question.
        each: number of sequences that form one row.
        read: interprets the model's output for these rows.
    """

    ids: Tensor
    starts: Tensor
    lengths: Tensor
    labels: Tensor
    pad_id: int
    pad_left: bool = False
    multiple: int = 1
    types: Tensor | None = None
    answer: Tensor | None = None
    options: Tensor | None = None
    mask: Tensor | None = None
    group: Tensor | None = None
    each: int = 1
    read: OutputReader = HEAD

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def truth(self) -> Tensor:
        """Return the correct answer to each question: [questions]."""
        if self.group is None:
            return self.labels
        return self.labels[torch.cat([torch.tensor([0]), self._sizes.cumsum(0)[:-1]])]

    @property
    def _sizes(self) -> Tensor:
        """Return the number of rows of each question: [questions]."""
        return torch.tensor(list(Counter(cast("Tensor", self.group).tolist()).values()))

    def answers(self, outputs: Tensor) -> Tensor:
        """Convert one output per row into one answer per question.

        Args:
            outputs: what `answers` of the output reader returned: [..., rows].

        Returns:
            [..., questions].
        """
        return outputs if self.group is None else self.by_question(outputs).argmax(-1)

    def judged(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Convert one output and loss per row into one answer and loss per question.

        Args:
            outputs: what `judge` of the output reader returned: [..., rows, 2].

        Returns:
            Answers, as returned by `answers`, and losses in nats or squared units: both [..., questions].
        """
        values, losses = outputs.unbind(-1)
        if self.group is not None:
            scores = self.by_question(values)
            correct = self.truth.expand(scores.shape[:-1])[..., None]
            return scores.argmax(-1), -scores.log_softmax(-1).gather(-1, correct)[..., 0]
        return (values if self.labels.is_floating_point() else values.long()), losses

    def by_question(self, outputs: Tensor) -> Tensor:
        """Arrange one output per option by question.

        Args:
            outputs: [..., rows].

        Returns:
            [..., questions, options], -inf for options that a question does not have.
        """
        sizes = self._sizes
        columns = torch.cat([torch.arange(size) for size in sizes.tolist()])
        rows = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        table = outputs.new_full((*outputs.shape[:-1], len(sizes), int(sizes.max())), -torch.inf)
        table[..., rows, columns] = outputs
        return table

    def first(self, rows: int) -> "Rows":
        """Return only the first `rows` rows. `ids` and `types` are kept whole."""
        by_row = ("starts", "lengths", "labels", "answer", "options", "mask", "group")
        columns = {name: getattr(self, name) for name in by_row}
        ends = dict.fromkeys(("starts", "lengths"), rows * self.each)
        shortened: dict[str, Any] = {
            name: column[: ends.get(name, rows)] for name, column in columns.items() if column is not None
        }
        return replace(self, **shortened)

    @property
    def longest(self) -> Tensor:
        """Return the number of tokens in the longest sequence of each row: [rows]."""
        return self.lengths.view(-1, self.each).amax(1)

    def padded(self, longest: int) -> int:
        """Return the padded length of a batch whose longest row has `longest` tokens.

        Rounding up to `multiple` never exceeds the longest of all rows.
        """
        if longest % self.multiple == 0:
            return longest
        return min(longest + self.multiple - longest % self.multiple, int(self.lengths.max()))


@dataclass(frozen=True)
class Encoded:
    """A task encoded for one tokenizer.

    Attributes:
        train: the rows to train on.
        select: the rows on which the learning rate and the checkpoint are chosen.
        report: the rows whose scores the tables show.
        further: more parts by name, scored in addition to report.
        metrics: names of the metrics (metrics.py). The first one is used for selection.
        notes: what a reader of the scores must know.
        about: properties of the questions in the report part. Each value is also scored separately.
        chance: accuracy of random guessing on the report part.
        taught: the select part with its correct answers. Set only if the model writes its answers out, because the
            answers to select itself then have no loss.
    """

    train: Rows
    select: Rows
    report: Rows
    further: dict[str, Rows] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("accuracy",)
    notes: tuple[str, ...] = ()
    about: dict[str, list[str]] = field(default_factory=dict)
    chance: float | None = None
    taught: Rows | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Rows], **more: Any) -> "Encoded":
        """Build an encoded task from all of its parts by name.

        Args:
            parts: the parts. train may be missing if nothing is trained.
            more: values of the other fields.
        """
        train = parts["train"] if "train" in parts else parts["select"].first(0)
        return cls(train, parts["select"], parts["report"], others(parts), **more)

    def in_multiples(self, multiple: int) -> "Encoded":
        """Return the task with its batches padded to a multiple of `multiple` tokens."""
        parts = {name: replace(part, multiple=multiple) for name, part in self.parts.items()}
        main_parts: Any = {name: parts[name] for name in PARTS}
        taught = None if self.taught is None else replace(self.taught, multiple=multiple)
        return replace(self, **main_parts, further=others(parts), taught=taught)

    @property
    def truth(self) -> dict[str, list[Any]]:
        """Return the correct answers to all parts except train, as plain lists."""
        return {name: rows.truth.tolist() for name, rows in self.parts.items() if name != "train"}

    @property
    def parts(self) -> dict[str, Rows]:
        """Return all parts by name."""
        return {"train": self.train, "select": self.select, "report": self.report, **self.further}


def encode(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path,
    metrics: Sequence[str] = ("accuracy",),
) -> Encoded:
    """Tokenise all parts of a task, or read them from the cache.

    Args:
        task: the texts and labels.
        tokenizer: the model's tokenizer.
        max_length: number of tokens to which rows are cut.
        cache: folder of the token cache.
        metrics: names of the metrics. The first one is used for selection.

    Raises:
        ValueError: a text has a lone surrogate, or the cache folder cannot be written to.
    """
    check_characters(task)
    key = [tokenizer_hash(tokenizer), max_length]
    parts = {name: _encode_split(split, tokenizer, key, cache) for name, split in task.parts.items()}
    return Encoded.of(parts, metrics=tuple(metrics), notes=(task.note,) if task.note else ())


def _encode_split(split: Split, tokenizer: PreTrainedTokenizerBase, key: Sequence[Any], cache: Path) -> Rows:
    """Tokenise one part. key: the tokenizer's hash and the maximum number of tokens per row."""
    texts = [split.texts] if split.second is None else [split.texts, split.second]

    def make() -> dict[str, np.ndarray]:
        # If a pair is too long, the tokenizer cuts the longer text.
        encoded = tokenizer(*texts, truncation=True, max_length=key[-1])
        types = np.concatenate(encoded.get("token_type_ids", [[0]]))
        return end_to_end(encoded["input_ids"]) | ({"types": types} if types.any() else {})

    return rows_of(cached("texts", [*key, texts], cache, make), split.labels, tokenizer)


def end_to_end(rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Concatenate rows of token ids.

    Returns:
        `ids`, the tokens of all rows: [tokens] int64. `lengths`, the number of tokens of each row: [rows].
    """
    lengths = np.array([len(row) for row in rows])
    return {"ids": np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]), "lengths": lengths}


def rows_of(
    arrays: Mapping[str, np.ndarray], labels: Sequence[float], tokenizer: PreTrainedTokenizerBase, **more: Any
) -> Rows:
    """Build Rows from numpy arrays.

    Args:
        arrays: `ids` and `lengths`, as returned by `end_to_end`, and optionally other columns of Rows by name.
        labels: a class or a number for each row.
        tokenizer: determines the padding token and the padding side.
        more: values of other fields of Rows.
    """
    columns: dict[str, Any] = {name: torch.from_numpy(array).long() for name, array in arrays.items()}
    lengths = columns.pop("lengths")
    return Rows(
        ids=columns.pop("ids"),
        starts=torch.cumsum(lengths, 0) - lengths,
        lengths=lengths,
        labels=torch.tensor(labels),
        pad_id=int(tokenizer.pad_token_id),
        pad_left=tokenizer.padding_side == "left",
        **columns,
        **more,
    )
