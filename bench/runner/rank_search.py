"""The rank at which a method trains as many parameters as a budget allows, counted on a model without weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import torch
from omegaconf import DictConfig, OmegaConf

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit, allowed_ranks
from bench.config.schema import Config
from bench.measure.parameters import count
from bench.models.load import empty_model
from bench.models.source import find_model
from bench.runner.build import method_of

BELOW = 0.1  # the most by which a cell may miss its budget


@dataclass(frozen=True)
class Ladder:
    """The ranks that a cell may have."""

    config: DictConfig  # composed, of any rank
    cell: Cell  # at the lowest rank
    ranks: range  # those that fit the method and the model

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """Read which ranks a configuration may have.

        Raises:
            Misfit: None, or the method has no rank.
            ValueError: The configuration is wrong for another reason.
        """
        conf: Config = OmegaConf.to_object(OmegaConf.merge(Config, config))  # type: ignore[assignment]
        if "rank" not in conf.method.uses or not conf.method.trains:
            raise Misfit(
                f"method {conf.method.name!r} has no rank that changes what it trains; leave out match_params="
                f"{conf.match_params} or the method"
            )
        ranks, config = allowed_ranks(conf, find_model(conf.model)), config.copy()
        config.rank = ranks[0] if ranks else conf.rank
        return cls(config, Cell.of(config), ranks)

    @property
    def key(self) -> tuple[Any, ...]:
        """What decides the count at each rank, and the budget."""
        method, budget = self.cell.conf.method, self.cell.conf.match_params
        return self.cell.source, self.cell.form.speaks, str(method), self.cell.parts, self.ranks, budget

    def matched(self) -> int:
        """Find the rank whose trained parameters without the head are nearest to the budget, and at most as many.

        Raises:
            Misfit: The least is more than the budget, the nearest is too far below it, or the library refuses the
                lowest ranks.
        """
        budget = self.cell.conf.match_params or 0
        trained, ranks = cache(self._trained), self.ranks
        name = " ".join(filter(None, [self.cell.method, self.cell.target])) + f" on {self.cell.source.label}"
        first = [found for rank in ranks[:2] if (found := trained(rank)) is not None]
        if not first:
            raise Misfit(f"{name}: {self._refusal()}")
        if len(first) == 2 and first[1] < first[0]:
            ranks = ranks[::-1]
        place = nearest(lambda place: trained(ranks[place]), len(ranks), budget)
        if place is None:
            least = next(rank for rank in ranks if trained(rank) is not None)
            raise Misfit(
                f"{name}: rank={least} trains {trained(least):,} parameters without the head, more than match_params="
                f"{budget:,}"
            )
        if (most := trained(ranks[place]) or 0) < (1 - BELOW) * budget:
            raise Misfit(
                f"{name}: no rank comes near enough; rank={ranks[place]} trains {most:,} parameters without the head, "
                f"more than {BELOW:.0%} below match_params={budget:,}"
            )
        return ranks[place]

    def _refusal(self) -> str:
        """What the library says against the lowest rank."""
        try:
            _attached(self.cell)
        except ValueError as error:
            return str(error)
        return "no rank fits it"

    def _trained(self, rank: int) -> int | None:
        """Count the parameters that are trained at a rank, without the head; None where the library refuses it."""
        config = self.config.copy()
        config.rank = rank
        method: Any = OmegaConf.to_object(config.method)
        cell = replace(self.cell, conf=replace(self.cell.conf, method=method))
        try:
            found = count(_attached(cell))
        except ValueError:
            return None
        return found.trainable - found.head


def _attached(cell: Cell) -> torch.nn.Module:
    """An empty model with the method attached; some methods must compute with weights, and these may be anything."""
    source, method = cell.source, method_of(cell)
    model = empty_model(source, cell.outputs, speaks=cell.form.speaks, layers=source.num_layers)
    try:
        with torch.device("meta"):
            return method(model)
    except RuntimeError:
        model = empty_model(source, cell.outputs, speaks=cell.form.speaks, layers=source.num_layers)
        return method(model.to_empty(device="cpu"))


def nearest(count: Callable[[int], int | None], size: int, limit: int) -> int | None:
    """Find the place with the largest count within a limit, and the first of equal ones.

    Args:
        count: Of a place from 0 to `size - 1`; grows with the place, and is None where the place cannot be used.
        size: How many places there are.
        limit: The largest count that is allowed.

    Returns:
        The place; None if even the first count is beyond the limit.
    """
    last = _last(count, size, limit, _guess(count, size, limit))
    if last is None:
        return None
    most = count(last)
    fewer = _last(count, last, (most or 0) - 1, last - 1)
    return next(place for place in range(0 if fewer is None else fewer + 1, size) if count(place) == most)


def _guess(count: Callable[[int], int | None], size: int, limit: int) -> int:
    """The last place within a limit where counts grow evenly, as those of most methods do."""
    first, second = count(0), count(1) if size > 1 else None
    if first is None or second is None or second <= first:
        return 0
    return max(0, (limit - first) // (second - first))


def _last(count: Callable[[int], int | None], size: int, limit: int, guess: int) -> int | None:
    """The last place within a limit: from a guess by strides that double until one is beyond, then by halves."""
    within, beyond, stride, best = -1, size, guess + 1, None
    while beyond - within > 1:
        there = min(within + stride, size - 1) if beyond == size else (within + beyond) // 2
        stride = 1 if within < 0 else 2 * stride
        place = next((one for one in range(there, within, -1) if count(one) is not None), None)
        if place is not None and (count(place) or 0) > limit:
            beyond = place
            continue
        within, best = there, best if place is None else place
    return best
