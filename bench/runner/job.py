"""What a worker is asked to do."""

from dataclasses import dataclass

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race


@dataclass(frozen=True)
class Job:
    """Work on one cell, in this order: its cost, some of its trials, a race and the trials of the winner."""

    cell: Cell
    trials: tuple[Trial, ...] = ()  # to be trained
    probe: bool = False  # whether the cost is to be measured
    race: Race | None = None  # to be held
    seeds: tuple[int, ...] = ()  # of the report, to be trained at the winner's rate
    recorded: frozenset[str] = frozenset()  # names of trials that need no training, whichever rate wins
    threads: int | None = None  # of torch while it trains on a CPU; None: as many as it takes by itself
