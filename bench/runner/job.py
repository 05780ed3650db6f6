"""The work that a worker receives."""

from dataclasses import dataclass

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race


@dataclass(frozen=True)
class Job:
    """Work on one cell, in this order: measure its cost, train some trials, run a race, train the winner's trials.

    Attributes:
        cell: The cell.
        trials: Trials to train.
        probe: Whether to measure the cost.
        race: The race to run or resume; None if there is none.
        seeds: Seeds of the report, to be trained at the winner's rate.
        recorded: Names of trials that need no training, whichever rate wins.
        threads: Threads of torch while it trains on a CPU; None for torch's default.
    """

    cell: Cell
    trials: tuple[Trial, ...] = ()
    probe: bool = False
    race: Race | None = None
    seeds: tuple[int, ...] = ()
    recorded: frozenset[str] = frozenset()
    threads: int | None = None
