"""Texts to token ids, cached on disk by content, so that each text is tokenised once for all cells."""

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
    """Encoded rows, laid end to end without padding.

    ids: [tokens] int64. starts: [rows] int64, where each row begins. lengths: [rows] int64. labels: [rows] int64, or
    fp32 where a number is predicted. each: sequences that make one row, side by side; starts and lengths are theirs,
    [rows * each]. types: [tokens] int64, which of two texts a token belongs to; None: there is one.
    answer: [rows] int64, how many tokens at the end of a row are predicted by a language model; None: no token is.
    options: [rows] int64, how many there are to choose from; None: as many in every row.
    mask: [rows] int64, how many tokens before a row's end its mask stands, the last token being 1; None: it has none.
    group: [rows] int64, rising: which question a row is an option of; None: each row is a question of its own.
    read: what the model's output for them means.
    pad_left: whether padding goes before a row, so that its last token stays the last. multiple: batches are padded to
    a multiple of so many tokens, where few different lengths are worth more than little padding.
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
        """The right answer to each question: [questions]."""
        if self.group is None:
            return self.labels
        return self.labels[torch.cat([torch.tensor([0]), self._sizes.cumsum(0)[:-1]])]

    @property
    def _sizes(self) -> Tensor:
        """How many rows each question has: [questions]."""
        return torch.tensor(list(Counter(cast("Tensor", self.group).tolist()).values()))

    def answers(self, found: Tensor) -> Tensor:
        """From what was found for each row to the answers. found: [..., rows]; gives [..., questions]."""
        return found if self.group is None else self.beside(found).argmax(-1)

    def judged(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """From what was found for each row to the answers and their losses.

        Args:
            found: what the reading's `judge` gave, [..., rows, 2].

        Returns:
            Answers, as `answers` gives them, and losses in nats or squared units: both [..., questions].
        """
        first, losses = found.unbind(-1)
        if self.group is not None:
            each = self.beside(first)
            right = self.truth.expand(each.shape[:-1])[..., None]
            return each.argmax(-1), -each.log_softmax(-1).gather(-1, right)[..., 0]
        return (first if self.labels.is_floating_point() else first.long()), losses

    def beside(self, found: Tensor) -> Tensor:
        """What was found for each option, question by question. found: [..., rows]; gives [..., questions, options],
        -inf for those that a question does not have.
        """
        sizes = self._sizes
        places = torch.cat([torch.arange(size) for size in sizes.tolist()])
        rows = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        each = found.new_full((*found.shape[:-1], len(sizes), int(sizes.max())), -torch.inf)
        each[..., rows, places] = found
        return each

    def first(self, rows: int) -> "Rows":
        """The first rows alone."""
        by_row = ("starts", "lengths", "labels", "answer", "options", "mask", "group")
        columns = {name: getattr(self, name) for name in by_row}
        ends = dict.fromkeys(("starts", "lengths"), rows * self.each)
        some: dict[str, Any] = {
            name: part[: ends.get(name, rows)] for name, part in columns.items() if part is not None
        }
        return replace(self, **some)

    @property
    def longest(self) -> Tensor:
        """Tokens of the longest sequence of each row: [rows]."""
        return self.lengths.view(-1, self.each).amax(1)

    def padded(self, longest: int) -> int:
        """The length of a batch whose longest row has so many tokens; never above the longest row of all."""
        if longest % self.multiple == 0:
            return longest
        return min(longest + self.multiple - longest % self.multiple, int(self.lengths.max()))


@dataclass(frozen=True)
class Encoded:
    """A task for one tokenizer. metrics: how it is scored (metrics.py); the first one chooses. notes: what a reader of
    the scores must know. about: properties of the report part's questions, by which they are scored apart too.
    chance: the accuracy of guessing on the report part. taught: select with its right answers, where they are written
    out and the answers of select itself have no loss.
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
        """From all parts by name; without train where nothing is trained. more: the other fields."""
        train = parts["train"] if "train" in parts else parts["select"].first(0)
        return cls(train, parts["select"], parts["report"], others(parts), **more)

    def in_multiples(self, multiple: int) -> "Encoded":
        """With batches padded to a multiple of so many tokens."""
        parts = {name: replace(part, multiple=multiple) for name, part in self.parts.items()}
        main: Any = {name: parts[name] for name in PARTS}
        taught = None if self.taught is None else replace(self.taught, multiple=multiple)
        return replace(self, **main, further=others(parts), taught=taught)

    @property
    def truth(self) -> dict[str, list[Any]]:
        """The right answers to all parts but train, as plain data."""
        return {name: rows.truth.tolist() for name, rows in self.parts.items() if name != "train"}

    @property
    def parts(self) -> dict[str, Rows]:
        """All parts by name."""
        return {"train": self.train, "select": self.select, "report": self.report, **self.further}


def encode(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    cache: Path,
    metrics: Sequence[str] = ("accuracy",),
) -> Encoded:
    """Tokenise all parts, or read them back from the cache. ValueError: a text is none, or the cache cannot be used."""
    check_characters(task)
    decisive = [tokenizer_hash(tokenizer), max_length]
    parts = {name: _encode_split(split, tokenizer, decisive, cache) for name, split in task.parts.items()}
    return Encoded.of(parts, metrics=tuple(metrics), notes=(task.note,) if task.note else ())


def _encode_split(split: Split, tokenizer: PreTrainedTokenizerBase, decisive: Sequence[Any], cache: Path) -> Rows:
    """decisive: the tokenizer's hash, and the tokens that a row may have."""
    texts = [split.texts] if split.second is None else [split.texts, split.second]

    def make() -> dict[str, np.ndarray]:  # of a pair that is too long, the longer text is cut
        encoded = tokenizer(*texts, truncation=True, max_length=decisive[-1])
        types = np.concatenate(encoded.get("token_type_ids", [[0]]))
        return end_to_end(encoded["input_ids"]) | ({"types": types} if types.any() else {})

    return rows_of(cached("texts", [*decisive, texts], cache, make), split.labels, tokenizer)


def end_to_end(rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """Rows of token ids, end to end, with their lengths."""
    lengths = np.array([len(row) for row in rows])
    return {"ids": np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]), "lengths": lengths}


def rows_of(
    arrays: Mapping[str, np.ndarray], labels: Sequence[float], tokenizer: PreTrainedTokenizerBase, **more: Any
) -> Rows:
    """What `laid_out` gave (and other columns by their names in Rows), as tensors. more: fields of Rows."""
    columns: dict[str, Any] = {name: torch.from_numpy(array).long() for name, array in arrays.items()}
    sizes = columns.pop("lengths")
    return Rows(
        ids=columns.pop("ids"),
        starts=torch.cumsum(sizes, 0) - sizes,
        lengths=sizes,
        labels=torch.tensor(labels),
        pad_id=int(tokenizer.pad_token_id),
        pad_left=tokenizer.padding_side == "left",
        **columns,
        **more,
    )
