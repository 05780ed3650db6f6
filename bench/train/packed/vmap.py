"""Map a function of one trial over many trials."""

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
    """Apply a function to each trial and return the stacked results.

    Args:
        function: Takes a trial's row, its number, the other tensors of its seed, and its batch.
        rows: The trained numbers of each trial, [trials, numbers].
        numbers: The number of each trial, [trials].
        seeds: The seed of each trial, as an index into the first dimension of `other` and of the batch. Trials of the
            same seed are adjacent.
        other: Tensors that differ between seeds, by name, [seeds, ...].
        batch: The batch of all seeds together, or one batch that every seed uses.
        shares: Whether to compute what depends only on the seed once for all trials of that seed.

    Returns:
        The results, [trials, ...].
    """

    def call(row: Tensor, number: Tensor, own_other: dict[str, Tensor], columns: dict[str, Tensor]) -> Tensor:
        return function(row, number, own_other, replace(batch, **cast("dict[str, Any]", columns)))

    def inputs_of(chosen: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The other tensors and the batch columns of these seeds, stacked. A batch without seeds is repeated."""

        def pick(by_seed: Tensor) -> Tensor:
            return torch.stack([by_seed[seed] for seed in chosen])

        columns = batch.own
        if batch.labels.ndim == 1:
            columns = {name: column.expand(1 + max(chosen), *column.shape) for name, column in columns.items()}
        # Indexing with a list would copy the list to the device, and the host would wait for that copy.
        return (
            {name: pick(by_seed) for name, by_seed in other.items()},
            {name: pick(column) for name, column in columns.items()},
        )

    distinct = list(dict.fromkeys(seeds))
    within = len(seeds) // len(distinct)
    # Once some trials have ended, the others may no longer form a full grid of seeds and rates.
    if not shares or list(seeds) != [seed for seed in distinct for _ in range(within)]:
        return vmap(call)(rows, numbers, *inputs_of(seeds))
    per_seed = vmap(call, in_dims=(0, 0, None, None))
    rows, numbers = (part.view(len(distinct), within, *part.shape[1:]) for part in (rows, numbers))
    results: Tensor = vmap(per_seed)(rows, numbers, *inputs_of(distinct))
    return results.flatten(0, 1)
