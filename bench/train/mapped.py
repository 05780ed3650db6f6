"""A function of one trial, mapped over many: first over their seeds, which differ in the batch, then within each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.func import vmap

from bench.train.batches import Batch


def over_trials(
    function: Callable[[Tensor, Tensor, dict[str, Tensor], Batch], Any],
    rows: Tensor,
    numbers: Tensor,
    seeds: Sequence[int],
    other: Mapping[str, Tensor],
    batch: Batch,
    *,
    shares: bool,
) -> Any:
    """What the function gives for each trial, stacked; where that is a tuple, each part of it.

    function: of a trial's row, its number, its seed's other tensors and its batch. rows: [trials, numbers]. numbers:
    [trials]. seeds: each trial's, as an index into the first dimension of `other` and of the batch; those of one seed
    lie side by side. shares: what depends on the batch alone is computed once for trials that have the same.
    """
    distinct = list(dict.fromkeys(seeds))
    within = len(seeds) // len(distinct)
    # Where some trials of a seed have ended, or the method cannot bear it, nothing is shared within a seed.
    if not shares or list(seeds) != [seed for seed in distinct for _ in range(within)]:
        distinct, within = list(seeds), 1
    ids, labels = batch.input_ids, batch.labels
    per_seed = labels.ndim == 2 and len(set(distinct)) > 1
    if per_seed:
        ids, labels = ids[distinct], labels[distinct]
    elif labels.ndim == 2:
        ids, labels = ids[distinct[0]], labels[distinct[0]]
    if not (shares or per_seed):
        ids, labels, per_seed = ids.expand(len(seeds), *ids.shape), labels.expand(len(seeds), *labels.shape), True

    def one(row: Tensor, number: Tensor, other: dict[str, Tensor], ids: Tensor, labels: Tensor) -> Any:
        return function(row, number, other, Batch(ids, batch.attention_mask, labels, batch.tokens))

    mapped = vmap(one, in_dims=(0, 0, None, None, None))
    mapped = vmap(mapped, in_dims=(0, 0, 0, 0 if per_seed else None, 0 if per_seed else None))
    rows, numbers = (part.view(len(distinct), within, *part.shape[1:]) for part in (rows, numbers))
    found = mapped(rows, numbers, {name: many[distinct] for name, many in other.items()}, ids, labels)
    return tuple(part.flatten(0, 1) for part in found) if isinstance(found, tuple) else found.flatten(0, 1)
