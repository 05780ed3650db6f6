"""Batches by length: the rows of a batch have similar lengths, so there is little padding.

The sequence of batch lengths depends only on the data, so all trials of a cell see the same shapes. Which rows fill a
batch depends only on the trial's seed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.tasks.encoding.rows import Rows
from bench.tasks.outputs import HEAD, OutputReader

# Tokens of padding that cost as much time as one more call of MiniLM. With this limit, 64 rows were evaluated 2.6 times
# as fast as in one batch, and 640 rows equally fast.
PADDING = 100
# The tensors of a batch: per sequence, per row, and for the whole batch.
BY_SEQUENCE = ("input_ids", "types", "attention_mask")
BY_ROW = ("labels", "answer", "options", "from_end")
COLUMNS = (*BY_SEQUENCE, *BY_ROW, "share")

MASKS_OF_SEEDS = 3  # dimensions of an attention mask that differs between seeds


@dataclass(frozen=True)
class Batch:
    """A padded batch of rows.

    If trials of several seeds run together, every tensor has a leading dimension [seeds]. The attention mask has it
    only if each row has several sequences; otherwise all seeds use the same mask.

    Attributes:
        input_ids: Token ids, [rows * each, length].
        attention_mask: 1 for tokens and 0 for padding, shaped as `input_ids`. None if nothing is padded.
        labels: Labels, [rows].
        tokens: The number of tokens of one trial, without padding.
        types: Which of two texts each token belongs to, shaped as `input_ids`. None if there is one text.
        answer: Tokens of each row's answer, as in `Rows`, [rows].
        options: How many options each row has, as in `Rows`, [rows].
        from_end: Position of each row's mask token, counted from the end of the padded row (the last is 1), [rows].
            None if there is no mask token.
        read: How to read the model's output, as in `Rows`.
        keep: How many of the last positions need logits from a language model. None for other models.
        share: For a part of a batch, its share of the whole batch's loss, [] or [seeds].
        each: Sequences per row.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    tokens: int
    types: Tensor | None = None
    answer: Tensor | None = None
    options: Tensor | None = None
    from_end: Tensor | None = None
    read: OutputReader = HEAD
    keep: int | None = None
    share: Tensor | None = None
    each: int = 1

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.labels.shape[-1]

    @property
    def width(self) -> int:
        """Tokens of each row, padding included."""
        return self.each * self.input_ids.shape[-1]

    @property
    def columns(self) -> dict[str, Tensor]:
        """The tensors that the batch has."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        return {name: column for name, column in columns.items() if column is not None}

    @property
    def own(self) -> dict[str, Tensor]:
        """The tensors that differ between seeds. The mask is one of them only if the seeds have different masks."""
        mask = self.attention_mask
        masks_differ = mask is not None and mask.ndim == MASKS_OF_SEEDS
        return {name: column for name, column in self.columns.items() if masks_differ or name != "attention_mask"}

    def parts(self, rows: int | None) -> "list[Batch]":
        """Split the batch. The losses of the parts, weighted by `share`, add up to the loss of the whole batch.

        Args:
            rows: The number of rows per part, or None for a single part.
        """
        if rows is None or rows >= self.rows:
            return [self]
        whole = self.read.weight(self)
        cuts = [slice(first, first + rows) for first in range(0, self.rows, rows)]
        parts = [self._part(cut) for cut in cuts]
        return [replace(part, share=self.read.weight(part) / whole) for part in parts]

    def _part(self, cut: slice) -> "Batch":
        sequences = slice(cut.start * self.each, cut.stop * self.each)
        columns = self.columns
        selected: dict[str, Any] = {name: columns[name][..., sequences, :] for name in BY_SEQUENCE if name in columns}
        selected |= {name: columns[name][..., cut] for name in BY_ROW if name in columns}
        return replace(self, **selected)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device. It is copied from pinned memory, so the host does not wait for the copy."""
        if device.type == "cpu":
            return self

        return self.map(lambda column: column.pin_memory().to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with a function applied to all of its tensors."""
        changed: dict[str, Any] = {name: change(column) for name, column in self.columns.items()}
        return replace(self, **changed)


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on the device. Each is copied while the batch before it is processed."""
    ready = None
    for batch in batches:
        copying = batch.to(device)
        if ready is not None:
            yield ready
        ready = copying
    if ready is not None:
        yield ready


def by_length(rows: Rows, batch: int, seed: int | None = None, *, tokens: int | None = None) -> list[Tensor]:
    """Sort the rows by length and split them into batches.

    Args:
        rows: The rows.
        batch: Rows per batch. Ignored if `tokens` is given.
        seed: Determines the order of rows of equal length. None keeps their order, for evaluation.
        tokens: The maximum number of tokens per batch, padding included. A batch has at least one row. None for no
            limit.

    Returns:
        The row numbers of each batch, from the shortest rows to the longest.
    """
    lengths = rows.longest.numpy()
    ties = np.arange(len(lengths)) if seed is None else np.random.default_rng(seed).permutation(len(lengths))
    order = np.lexsort((ties, lengths))
    sizes = batch if tokens is None else _within((rows.each * lengths[order]).tolist(), tokens)
    return list(torch.split(torch.from_numpy(order), sizes))


def for_evaluation(rows: Rows, batch: int, device: torch.device) -> list[Tensor]:
    """Sort the rows by length and split them into batches for evaluation.

    On a CPU, a batch ends early if it would have more than PADDING tokens of padding. An accelerator always gets full
    batches, because there another call takes longer than padding.

    Args:
        rows: The rows.
        batch: The maximum number of rows per batch.
        device: Where the rows are evaluated.

    Returns:
        The row numbers of each batch, from the shortest rows to the longest.
    """
    (order,) = by_length(rows, max(1, len(rows)))
    lengths = (rows.each * rows.longest[order]).tolist()
    return list(torch.split(order, _tight(lengths, batch) if device.type == "cpu" else batch))


def _within(lengths: list[int], tokens: int) -> list[int]:
    """Sizes of batches whose tokens (rows times longest row) stay within a budget. lengths: ascending."""
    sizes = [0]
    for length in lengths:
        if sizes[-1] and (sizes[-1] + 1) * length > tokens:
            sizes.append(0)
        sizes[-1] += 1
    return sizes


def _tight(lengths: list[int], batch: int) -> list[int]:
    """Sizes of batches with at most `batch` rows and PADDING tokens of padding. lengths: ascending."""
    sizes, padding, previous = [0], 0, 0
    for length in lengths:
        padding += sizes[-1] * (length - previous)
        if sizes[-1] == batch or padding > PADDING:
            sizes.append(0)
            padding = 0
        sizes[-1] += 1
        previous = length
    return sizes


def epoch(
    rows: Rows, batch: int, *, number: int, seed: int, data_seed: int, tokens: int | None = None
) -> Iterator[Batch]:
    """Yield the batches of one pass over the rows.

    Args:
        rows: The rows.
        batch: Rows per batch. Ignored if `tokens` is given.
        number: The number of the pass, from 0.
        seed: Determines which rows fill each batch.
        data_seed: Determines the order of the batches, and so of their lengths.
        tokens: The maximum number of tokens per batch, padding included, or None for no limit.
    """
    batches = by_length(rows, batch, seed * 1_000_003 + number, tokens=tokens)
    for position in np.random.default_rng([data_seed, number]).permutation(len(batches)):
        yield collate(rows, batches[position])


def lockstep(passes: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Combine the passes of several seeds: yield one batch per step, with the seeds stacked.

    Args:
        passes: One pass per seed. At each step the rows of all seeds have the same lengths, row by row.
    """
    if len(passes) == 1:
        yield from passes[0]
        return
    for batches in zip(*passes, strict=True):
        columns = {name: [batch.columns[name] for batch in batches] for name in batches[0].own}
        if batches[0].each > 1:  # the lengths agree by row, but not by sequence
            columns["attention_mask"] = [masked(batch) for batch in batches]
        keep = None if batches[0].keep is None else max(batch.keep or 0 for batch in batches)
        yield replace(batches[0], keep=keep, **{name: torch.stack(tensors) for name, tensors in columns.items()})


def masked(batch: Batch) -> Tensor:
    """Return the attention mask, all ones if nothing is padded: [rows, length]."""
    return torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask


def collate(rows: Rows, numbers: Tensor) -> Batch:
    """Return a batch of some rows, padded to the longest sequence (and to `Rows.multiple`).

    Args:
        rows: The rows to select from.
        numbers: The numbers of the selected rows.
    """
    sequences = (numbers[:, None] * rows.each + torch.arange(rows.each)).flatten()
    lengths, starts = rows.lengths[sequences], rows.starts[sequences]
    longest = rows.padded(int(lengths.max()))
    columns = torch.arange(longest)
    if rows.pad_left:
        columns = columns - (longest - lengths)[:, None]
    real = (columns >= 0) & (columns < lengths[:, None])
    where = (starts[:, None] + columns).clamp_(min=0, max=len(rows.ids) - 1)
    padded = not bool(real.all())
    ids = torch.where(real, rows.ids[where], rows.pad_id) if padded else rows.ids[where]
    types = rows.types if rows.types is None else rows.types[where] * real
    answer, options = (None if column is None else column[numbers] for column in (rows.answer, rows.options))
    from_end = None if rows.mask is None else rows.mask[numbers] + (0 if rows.pad_left else longest - lengths)
    mask, tokens, keep = real.long() if padded else None, int(lengths.sum()), rows.read.keep(answer)
    labels, each = rows.labels[numbers], rows.each
    return Batch(ids, mask, labels, tokens, types, answer, options, from_end, rows.read, keep, each=each)
