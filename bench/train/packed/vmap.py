"""A function of one trial, mapped over many."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap

from bench.train.batches import Batch


def over_trials(
    function: Callable[[Tensor, Tensor, dict[str, Tensor], Batch], Tensor],
    rows: Tensor,
    numbers: Tensor,
    seeds: Sequence[int],
    other: Mapping[str, Tensor],
    batch: Batch,
    *,
    shares: bool,
) -> Tensor:
    """What the function gives for each trial, stacked.

    function: of a trial's row, its number, its seed's other tensors and its batch. rows: [trials, numbers]. numbers:
    [trials]. seeds: each trial's, as an index into the first dimension of `other` and of the batch; those of one seed
    lie side by side. shares: what depends on the seed alone is computed once for the trials that have it.
    """

    def one(row: Tensor, number: Tensor, other: dict[str, Tensor], parts: dict[str, Tensor]) -> Tensor:
        return function(row, number, other, replace(batch, **cast("dict[str, Any]", parts)))

    def of(some: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What these seeds have, stacked; a batch that is the same for all seeds is repeated."""

        def pick(many: Tensor) -> Tensor:
            return torch.stack([many[seed] for seed in some])

        parts = batch.own
        if batch.labels.ndim == 1:
            parts = {name: part.expand(1 + max(some), *part.shape) for name, part in parts.items()}
        # Not by index: a list of numbers would have to travel to the device, and the host would wait for it.
        return {name: pick(many) for name, many in other.items()}, {name: pick(part) for name, part in parts.items()}

    distinct = list(dict.fromkeys(seeds))
    within = len(seeds) // len(distinct)
    # Where some trials of a seed have ended, the rest are no rectangle of seeds and rates.
    if not shares or list(seeds) != [seed for seed in distinct for _ in range(within)]:
        return vmap(one)(rows, numbers, *of(seeds))
    per_seed = vmap(one, in_dims=(0, 0, None, None))
    rows, numbers = (part.view(len(distinct), within, *part.shape[1:]) for part in (rows, numbers))
    found: Tensor = vmap(per_seed)(rows, numbers, *of(distinct))
    return found.flatten(0, 1)
