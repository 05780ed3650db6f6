"""Find the rank at which a method trains as many parameters as a budget allows, on a model without weights."""

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

BELOW = 0.1  # largest share of its budget that a cell may leave unused


@dataclass(frozen=True)
class Ladder:
    """The ranks that a cell may have.

    Attributes:
        config: The composed configuration. Its rank is replaced during the search.
        cell: The cell at the lowest rank.
        ranks: The ranks that fit the method and the model.
    """

    config: DictConfig
    cell: Cell
    ranks: range

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """Read which ranks a configuration may have.

        Args:
            config: The composed configuration, with any rank.

        Raises:
            Misfit: No rank is possible, or the method has no rank.
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
        """Everything that determines the result. Equal keys give the same rank."""
        method, budget = self.cell.conf.method, self.cell.conf.match_params
        return self.cell.source, self.cell.form.speaks, str(method), self.cell.parts, self.ranks, budget

    def matched(self) -> int:
        """Find the rank with the most trained parameters within the budget. The head is not counted.

        Returns:
            The rank, the first in the search order if several train equally many parameters.

        Raises:
            Misfit: Even the smallest count exceeds the budget, the best count is too far below it, or the library
                rejects the lowest ranks.
        """
        budget = self.cell.conf.match_params or 0
        trained, ranks = cache(self._trained), self.ranks
        name = " ".join(filter(None, [self.cell.method, self.cell.target])) + f" on {self.cell.source.label}"
        lowest_counts = [trainable for rank in ranks[:2] if (trainable := trained(rank)) is not None]
        if not lowest_counts:
            raise Misfit(f"{name}: {self._refusal()}")
        if len(lowest_counts) == 2 and lowest_counts[1] < lowest_counts[0]:
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
                f"{name}: no rank is close enough; rank={ranks[place]} trains {most:,} parameters without the head, "
                f"more than {BELOW:.0%} below match_params={budget:,}"
            )
        return ranks[place]

    def _refusal(self) -> str:
        """Return the library's error message for the lowest rank."""
        try:
            _attached(self.cell)
        except ValueError as error:
            return str(error)
        return "no rank fits it"

    def _trained(self, rank: int) -> int | None:
        """Count the trained parameters at a rank without the head; None if the library rejects the rank."""
        config = self.config.copy()
        config.rank = rank
        method: Any = OmegaConf.to_object(config.method)
        cell = replace(self.cell, conf=replace(self.cell.conf, method=method))
        try:
            parameters = count(_attached(cell))
        except ValueError:
            return None
        return parameters.trainable - parameters.head


def _attached(cell: Cell) -> torch.nn.Module:
    """Attach the cell's method to a model without weights, or with arbitrary ones if the method computes with them."""
    source, method = cell.source, method_of(cell)
    model = empty_model(source, cell.outputs, speaks=cell.form.speaks, layers=source.num_layers)
    try:
        with torch.device("meta"):
            return method(model)
    except RuntimeError:
        model = empty_model(source, cell.outputs, speaks=cell.form.speaks, layers=source.num_layers)
        return method(model.to_empty(device="cpu"))


def nearest(count: Callable[[int], int | None], size: int, limit: int) -> int | None:
    """Find the place with the largest count within a limit.

    Args:
        count: Returns the count of a place from 0 to `size - 1`, or None if the place is not usable. Counts must not
            fall from one place to the next.
        size: Number of places.
        limit: Largest count that is allowed.

    Returns:
        The first place with that count, or None if even the smallest count exceeds the limit.
    """
    last = _last(count, size, limit, _guess(count, size, limit))
    if last is None:
        return None
    most = count(last)
    fewer = _last(count, last, (most or 0) - 1, last - 1)
    return next(place for place in range(0 if fewer is None else fewer + 1, size) if count(place) == most)


def _guess(count: Callable[[int], int | None], size: int, limit: int) -> int:
    """Guess the last place within a limit as if counts grew linearly, as they do for most methods."""
    first, second = count(0), count(1) if size > 1 else None
    if first is None or second is None or second <= first:
        return 0
    return max(0, (limit - first) // (second - first))


def _last(count: Callable[[int], int | None], size: int, limit: int, guess: int) -> int | None:
    """Find the last place within a limit.

    The search starts at the guess and doubles its stride until a place exceeds the limit. It then halves the interval.
    """
    within, beyond, stride, best = -1, size, guess + 1, None
    while beyond - within > 1:
        target = min(within + stride, size - 1) if beyond == size else (within + beyond) // 2
        stride = 1 if within < 0 else 2 * stride
        place = next((usable for usable in range(target, within, -1) if count(usable) is not None), None)
        if place is not None and (count(place) or 0) > limit:
            beyond = place
            continue
        within, best = target, best if place is None else place
    return best
