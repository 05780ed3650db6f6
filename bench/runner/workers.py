"""How many cells train at once on this machine, and with how many threads each: a rule, and no measurement."""

import os
from dataclasses import dataclass
from typing import Self

from bench.cells.cell import Cell
from bench.config.accelerator import gpu_visible
from bench.config.enums import Device

# Two workers with one thread each trained LoRA of MiniLM 1.2 to 1.5 times as fast as one with two threads. Each holds a
# model, and the products of a larger one keep many threads busy.
LARGEST = 200_000_000  # parameters


@dataclass(frozen=True)
class Workers:
    """Workers of one command.

    Attributes:
        at_once: Cells at a time.
        threads: Of torch in each while it trains; None: as many as it takes by itself.
    """

    at_once: int
    threads: int | None

    @classmethod
    def of(cls, cells: list[Cell]) -> Self:
        """By the setting, the cores and the models; it depends on the whole command, and not on what is recorded."""
        asked, cores = cells[0].conf.workers, _cores()
        if asked == "auto":
            alone = gpu_visible() and any(cell.conf.device is not Device.cpu for cell in cells)
            large = any(cell.source.parameters > LARGEST for cell in cells)
            asked = 1 if alone or large else min(cores, len({cell.id for cell in cells}))
        return cls(asked, max(1, cores // asked) if asked > 1 else None)


def _cores() -> int:
    """Cores that this process may use, as its affinity and OpenMP's own setting have it."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(told)) if told.isdecimal() and int(told) else there
