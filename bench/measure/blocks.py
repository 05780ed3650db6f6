"""Time the same steps in several blocks, and repeat if the blocks differ or something else was running."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any, Protocol

import numpy as np

from bench.measure.other_load import Counters, Load

SPREAD = 0.1  # largest difference between the slowest and the fastest block, as a share of the median block
REPEATS = 3  # rounds after the first one, at most
PATIENCE = 10.0  # seconds that one probe waits for a quiet machine, over all its rounds
GLANCE = 0.5  # seconds between two checks of the machine


class Watching(Protocol):
    """The part of `other_load.Watch` that a round needs."""

    def read(self) -> Counters: ...
    def since(self, first: Counters) -> Load: ...
    def pause(self, seconds: float) -> Load: ...


@dataclass(frozen=True)
class Round:
    """Blocks that ran one after another.

    Attributes:
        steps: Seconds of each step, by block.
        load: The other load during these blocks.
    """

    steps: list[list[float]]
    load: Load

    @property
    def block_seconds(self) -> float:
        """Seconds of the median block."""
        return median(map(sum, self.steps))

    @property
    def spread(self) -> float | None:
        """Difference between the slowest and the fastest block, as a share of the median. None for a single block."""
        seconds = [sum(block) for block in self.steps]
        return (max(seconds) - min(seconds)) / self.block_seconds if len(seconds) > 1 else None

    @property
    def contended(self) -> str | None:
        """Why the measurement is not reliable, in words. None if nothing was found.

        A single block is too short to be judged.
        """
        if self.spread is None:
            return None
        uneven = [f"the blocks differ by {100 * self.spread:.0f}%"] if self.spread > SPREAD else []
        return ", ".join([*self.load.disturbances, *uneven]) or None


def in_blocks(block: Callable[[], list[float]], count: int, watch: Watching) -> dict[str, Any]:
    """Run rounds of blocks until one is undisturbed.

    There are at most 1 + REPEATS rounds, with a wait for a quiet machine before each repeat. If the machine is still
    busy after PATIENCE seconds of waiting, one more round is the last.

    Args:
        block: Runs the same steps at every call and returns the seconds of each.
        count: Blocks per round.
        watch: Reads what else the machine does.

    Returns:
        Seconds per step and per block of the last round, or of the fastest round if every one was disturbed.
        `contended` says what disturbed it, or is None. `load` is the other load during it.
    """
    patience, rounds = PATIENCE, [_round(block, count, watch)]
    while rounds[-1].contended and len(rounds) <= REPEATS and patience >= GLANCE:
        patience -= _wait_for_quiet(watch, patience)
        rounds.append(_round(block, count, watch))
    best = rounds[-1] if rounds[-1].contended is None else min(rounds, key=lambda candidate: candidate.block_seconds)
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
    start = watch.read()
    steps = [block() for _ in range(count)]
    return Round(steps, watch.since(start))


def _wait_for_quiet(watch: Watching, patience: float) -> float:
    """Wait until nothing else runs, but not longer than `patience` seconds. Return the seconds waited."""
    waited = 0.0
    while waited + GLANCE <= patience:
        waited += GLANCE
        if not watch.pause(GLANCE).disturbances:
            break
    return waited
