"""Batches by length: rows of a batch are equally long or nearly so, and almost nothing is padding.

The sequence of batch lengths is a function of the data alone, so that all trials of a cell see the same shapes. Which
rows fill a batch is a function of the trial's seed alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.tasks.encoding.rows import Rows
from bench.tasks.outputs import HEAD, OutputReader

PADDING = 100  # tokens; calling MiniLM once more takes as long: 64 rows were 2.6 times as fast as in one batch, 640 1.0
# The tensors of a batch: those with a row for each sequence, those with a number for each row, and one for the whole.
BY_SEQUENCE = ("input_ids", "types", "attention_mask")
BY_ROW = ("labels", "answer", "options", "from_end")
COLUMNS = (*BY_SEQUENCE, *BY_ROW, "share")

MASKS_OF_SEEDS = 3  # dimensions of a mask that is not the same for all seeds


@dataclass(frozen=True)
class Batch:
    """input_ids: [rows, length]. attention_mask: the same, or None where nothing is padded. labels: [rows]. types: as
    input_ids, which of two texts a token belongs to; None where there is one.

    Where trials of several seeds go together: input_ids and types [seeds, rows, length], labels [seeds, rows]; the mask
    is one, unless each row is several sequences: then all three have [rows * each] of them. tokens: of one trial.
    answer, options, read: as in the rows. from_end: as `mask` there, but before the end of the padding. keep: the last
    positions at which a language model gives logits; None where it is none. share: where this is a part of a batch,
    what of that one's loss: [] or [seeds].
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
        return self.labels.shape[-1]

    @property
    def width(self) -> int:
        """Tokens of each row, padding included."""
        return self.each * self.input_ids.shape[-1]

    @property
    def columns(self) -> dict[str, Tensor]:
        """The tensors that the batch has."""
        named = {name: getattr(self, name) for name in COLUMNS}
        return {name: part for name, part in named.items() if part is not None}

    @property
    def own(self) -> dict[str, Tensor]:
        """What each seed has of the batch by itself; where the lengths are the same, so is the mask."""
        mask = self.attention_mask
        apart = mask is not None and mask.ndim == MASKS_OF_SEEDS
        return {name: part for name, part in self.columns.items() if apart or name != "attention_mask"}

    def parts(self, rows: int | None) -> "list[Batch]":
        """The batch in parts of so many rows, whose losses by their shares add up to its own. None: whole."""
        if rows is None or rows >= self.rows:
            return [self]
        whole = self.read.weight(self)
        cuts = [slice(first, first + rows) for first in range(0, self.rows, rows)]
        parts = [self._part(cut) for cut in cuts]
        return [replace(part, share=self.read.weight(part) / whole) for part in parts]

    def _part(self, cut: slice) -> "Batch":
        sequences = slice(cut.start * self.each, cut.stop * self.each)
        columns = self.columns
        some: dict[str, Any] = {name: columns[name][..., sequences, :] for name in BY_SEQUENCE if name in columns}
        some |= {name: columns[name][..., cut] for name in BY_ROW if name in columns}
        return replace(self, **some)

    def to(self, device: torch.device) -> "Batch":
        """On the device, by way of pinned memory, so that nobody waits for the copy."""
        if device.type == "cpu":
            return self

        return self.map(lambda part: part.pin_memory().to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """All tensors changed in the same way."""
        changed: dict[str, Any] = {name: change(part) for name, part in self.columns.items()}
        return replace(self, **changed)


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on the device, each on its way while the one before is worked on."""
    waiting = None
    for batch in batches:
        coming = batch.to(device)
        if waiting is not None:
            yield waiting
        waiting = coming
    if waiting is not None:
        yield waiting


def by_length(rows: Rows, batch: int, seed: int | None = None, *, tokens: int | None = None) -> list[Tensor]:
    """Cut the rows, sorted by length, into batches of row numbers; equally long rows change places by the seed.

    batch: rows of each; with `tokens` as many rows as make at most so many tokens with their padding, at least one.
    seed: None keeps their order (evaluation).
    """
    lengths = rows.longest.numpy()
    ties = np.arange(len(lengths)) if seed is None else np.random.default_rng(seed).permutation(len(lengths))
    order = np.lexsort((ties, lengths))
    sizes = batch if tokens is None else _within((rows.each * lengths[order]).tolist(), tokens)
    return list(torch.split(torch.from_numpy(order), sizes))


def for_evaluation(rows: Rows, batch: int, device: torch.device) -> list[Tensor]:
    """Cut the rows, sorted by length, into batches of row numbers; on a CPU fewer to each where many would be padded.

    batch: rows of each at most. An accelerator takes them all: it would wait longer for a call than for padding.
    """
    (order,) = by_length(rows, max(1, len(rows)))
    lengths = (rows.each * rows.longest[order]).tolist()
    return list(torch.split(order, _tight(lengths, batch) if device.type == "cpu" else batch))


def _within(lengths: list[int], tokens: int) -> list[int]:
    """Sizes of batches whose rows times the longest stay within a budget. lengths: rising."""
    sizes = [0]
    for length in lengths:
        if sizes[-1] and (sizes[-1] + 1) * length > tokens:
            sizes.append(0)
        sizes[-1] += 1
    return sizes


def _tight(lengths: list[int], batch: int) -> list[int]:
    """Sizes of batches of at most so many rows and PADDING tokens of padding. lengths: rising."""
    sizes, padding, before = [0], 0, 0
    for length in lengths:
        padding += sizes[-1] * (length - before)
        if sizes[-1] == batch or padding > PADDING:
            sizes.append(0)
            padding = 0
        sizes[-1] += 1
        before = length
    return sizes


def epoch(
    rows: Rows, batch: int, *, number: int, seed: int, data_seed: int, tokens: int | None = None
) -> Iterator[Batch]:
    """Batches of one pass: the order of the lengths comes from `data_seed`, their rows from `seed`."""
    batches = by_length(rows, batch, seed * 1_000_003 + number, tokens=tokens)
    for position in np.random.default_rng([data_seed, number]).permutation(len(batches)):
        yield collate(rows, batches[position])


def lockstep(passes: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Passes of several seeds side by side. Their batches have the same lengths at the same step, row by row."""
    if len(passes) == 1:
        yield from passes[0]
        return
    for batches in zip(*passes, strict=True):
        parts = {name: [one.columns[name] for one in batches] for name in batches[0].own}
        if batches[0].each > 1:  # their sequences are not equally long one by one
            parts["attention_mask"] = [masked(one) for one in batches]
        keep = None if batches[0].keep is None else max(one.keep or 0 for one in batches)
        yield replace(batches[0], keep=keep, **{name: torch.stack(tensors) for name, tensors in parts.items()})


def masked(batch: Batch) -> Tensor:
    """The mask, also where nothing is padded: [rows, length]."""
    return torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask


def collate(rows: Rows, numbers: Tensor) -> Batch:
    """Gather rows and pad them to the longest."""
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
