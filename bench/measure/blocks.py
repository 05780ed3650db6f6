"""The same steps in several blocks, measured again where the blocks differ or something else was running."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any, Protocol

import numpy as np

from bench.measure.other_load import Counters, Load

SPREAD = 0.1  # between the slowest and the fastest block, as a share of the median one
REPEATS = 3  # after the first round
PATIENCE = 10.0  # seconds that the rounds of one probe wait for a quiet machine, together
GLANCE = 0.5  # seconds between two looks at the machine


class Watching(Protocol):
    """What a round needs of `load.Watch`."""

    def read(self) -> Counters: ...
    def since(self, first: Counters) -> Load: ...
    def pause(self, seconds: float) -> Load: ...


@dataclass(frozen=True)
class Round:
    """Blocks that were run one after the other, and the load meanwhile. steps: the seconds of each step, by block."""

    steps: list[list[float]]
    load: Load

    @property
    def block_seconds(self) -> float:
        """The median block."""
        return median(map(sum, self.steps))

    @property
    def spread(self) -> float | None:
        """How much slower the slowest block was than the fastest, as a share of the median; None of a single block."""
        blocks = [sum(block) for block in self.steps]
        return (max(blocks) - min(blocks)) / self.block_seconds if len(blocks) > 1 else None

    @property
    def contended(self) -> str | None:
        """Why the figures cannot be believed, in words; None where nothing speaks against them.

        A single block is never judged: it is too short.
        """
        if self.spread is None:
            return None
        uneven = [f"the blocks differ by {100 * self.spread:.0f}%"] if self.spread > SPREAD else []
        return ", ".join([*self.load.disturbances, *uneven]) or None


def in_blocks(block: Callable[[], list[float]], count: int, watch: Watching) -> dict[str, Any]:
    """Run blocks until nothing disturbs them, at most 1 + REPEATS times, waiting for a quiet machine in between.

    Where the machine does not become quiet within PATIENCE, they run once more and that is all.

    Args:
        block: Runs the same steps at every call and returns the seconds of each.
        count: Blocks of a round.
        watch: Reads what else the machine does.

    Returns:
        The seconds per step and per block of the last round or, where every round was disturbed, of the fastest one;
        `contended`, what disturbed it, or None; `load`, what the machine did meanwhile.
    """
    patience, rounds = PATIENCE, [_round(block, count, watch)]
    while rounds[-1].contended and len(rounds) <= REPEATS and patience >= GLANCE:
        patience -= _wait_for_quiet(watch, patience)
        rounds.append(_round(block, count, watch))
    best = rounds[-1] if rounds[-1].contended is None else min(rounds, key=lambda one: one.block_seconds)
    steps = list(chain.from_iterable(best.steps))
    return {
        "step_seconds_median": float(np.median(steps)),
        "step_seconds_p95": float(np.quantile(steps, 0.95)),
        "block_seconds_median": best.block_seconds,
        "block_spread": best.spread,
        "blocks": len(best.steps),
        "rounds": len(rounds),
        "contended": best.contended,
        "load": best.load.recorded,
    }


def _round(block: Callable[[], list[float]], count: int, watch: Watching) -> Round:
    began = watch.read()
    steps = [block() for _ in range(count)]
    return Round(steps, watch.since(began))


def _wait_for_quiet(watch: Watching, patience: float) -> float:
    """Wait until nothing else runs, at most so many seconds. Returns the seconds waited."""
    waited = 0.0
    while waited + GLANCE <= patience:
        waited += GLANCE
        if not watch.pause(GLANCE).disturbances:
            break
    return waited
