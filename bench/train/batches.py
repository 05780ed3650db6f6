"""Batches by length: rows of a batch are equally long or nearly so, and almost nothing is padding.

The sequence of batch lengths is a function of the data alone, so that all trials of a cell see the same shapes. Which
rows fill a batch is a function of the trial's seed alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.tasks.encode import Rows

PADDING = 100  # tokens; calling MiniLM once more takes as long: 64 rows were 2.6 times as fast as in one batch, 640 1.0


@dataclass(frozen=True)
class Batch:
    """input_ids: [rows, length]. attention_mask: the same, or None where nothing is padded. labels: [rows].

    Where trials of several seeds go together: input_ids [seeds, rows, length], labels [seeds, rows]; the mask is one.
    tokens: of one trial.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    tokens: int

    @property
    def rows(self) -> int:
        return self.labels.shape[-1]

    def to(self, device: torch.device) -> "Batch":
        """On the device, by way of pinned memory, so that nobody waits for the copy. Has not been run on a GPU yet."""
        if device.type == "cpu":
            return self

        def sent(part: Tensor) -> Tensor:
            return part.pin_memory().to(device, non_blocking=True)

        mask = self.attention_mask
        return Batch(sent(self.input_ids), mask if mask is None else sent(mask), sent(self.labels), self.tokens)


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
    lengths = rows.lengths.numpy()
    ties = np.arange(len(lengths)) if seed is None else np.random.default_rng(seed).permutation(len(lengths))
    order = np.lexsort((ties, lengths))
    sizes = batch if tokens is None else _within(lengths[order].tolist(), tokens)
    return list(torch.split(torch.from_numpy(order), sizes))


def for_evaluation(rows: Rows, batch: int, device: torch.device) -> list[Tensor]:
    """Cut the rows, sorted by length, into batches of row numbers; on a CPU fewer to each where many would be padded.

    batch: rows of each at most. An accelerator takes them all: it would wait longer for a call than for padding.
    """
    (order,) = by_length(rows, max(1, len(rows)))
    return list(torch.split(order, _tight(rows.lengths[order].tolist(), batch) if device.type == "cpu" else batch))


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
        ids, labels = ([getattr(one, part) for one in batches] for part in ("input_ids", "labels"))
        yield Batch(torch.stack(ids), batches[0].attention_mask, torch.stack(labels), batches[0].tokens)


def collate(rows: Rows, numbers: Tensor) -> Batch:
    """Gather rows and pad them to the longest."""
    lengths, starts = rows.lengths[numbers], rows.starts[numbers]
    longest = rows.padded(int(lengths.max()))
    columns = torch.arange(longest)
    if rows.pad_left:
        columns = columns - (longest - lengths)[:, None]
    real = (columns >= 0) & (columns < lengths[:, None])
    where = (starts[:, None] + columns).clamp_(min=0, max=len(rows.ids) - 1)
    padded = not bool(real.all())
    ids = torch.where(real, rows.ids[where], rows.pad_id) if padded else rows.ids[where]
    return Batch(ids, real.long() if padded else None, rows.labels[numbers], int(lengths.sum()))
