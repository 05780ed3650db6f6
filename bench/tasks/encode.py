"""Texts to token ids, cached on disk by content, so that each text is tokenised once for all cells."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from bench.tasks.task import Split, Task


@dataclass(frozen=True)
class Rows:
    """Encoded rows, laid end to end without padding.

    ids: [tokens] int64. starts: [rows] int64, where each row begins. lengths: [rows] int64. labels: [rows] int64.
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

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, rows: int) -> "Rows":
        """The first rows alone."""
        return replace(self, starts=self.starts[:rows], lengths=self.lengths[:rows], labels=self.labels[:rows])

    def padded(self, longest: int) -> int:
        """The length of a batch whose longest row has so many tokens; never above the longest row of all."""
        if longest % self.multiple == 0:
            return longest
        return min(longest + self.multiple - longest % self.multiple, int(self.lengths.max()))


@dataclass(frozen=True)
class Encoded:
    """A task for one tokenizer."""

    train: Rows
    select: Rows
    report: Rows

    def in_multiples(self, multiple: int) -> "Encoded":
        """With batches padded to a multiple of so many tokens."""
        return Encoded(*(replace(part, multiple=multiple) for part in (self.train, self.select, self.report)))


def encode(task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int, cache: Path) -> Encoded:
    """Tokenise the three parts, or read them back from the cache."""
    vocabulary = _vocabulary(tokenizer)
    parts = {
        name: _encode_split(getattr(task, name), tokenizer, f"{vocabulary}/{max_length}", max_length, cache)
        for name in ("train", "select", "report")
    }
    return Encoded(**parts)


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash a tokenizer's rules, without the truncation and padding that its latest call left in it."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()


def _encode_split(split: Split, tokenizer: PreTrainedTokenizerBase, salt: str, max_length: int, cache: Path) -> Rows:
    content = json.dumps([salt, split.texts]).encode()
    path = cache / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    if not path.exists():
        encoded = tokenizer(split.texts, truncation=True, max_length=max_length)["input_ids"]
        lengths = np.array([len(row) for row in encoded], dtype=np.int32)
        _write({"ids": np.concatenate([np.asarray(row, dtype=np.int32) for row in encoded]), "lengths": lengths}, path)
    arrays = load_file(path)
    sizes = torch.from_numpy(arrays["lengths"]).long()
    starts = torch.cumsum(sizes, 0) - sizes
    return Rows(
        torch.from_numpy(arrays["ids"]).long(),
        starts,
        sizes,
        torch.tensor(split.labels),
        int(tokenizer.pad_token_id),
        pad_left=tokenizer.padding_side == "left",
    )


def _write(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write under a temporary name and rename: another cell may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    save_file(arrays, temporary)
    temporary.replace(path)
