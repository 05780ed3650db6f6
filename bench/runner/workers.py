"""How many cells train at once on this machine, and with how many threads each. This is a rule, not a measurement."""

import os
from dataclasses import dataclass
from typing import Self

from bench.cells.cell import Cell
from bench.config.accelerator import gpu_visible
from bench.config.enums import Device

# Two workers with one thread each trained LoRA on MiniLM 1.2 to 1.5 times as fast as one worker with two threads. For
# large models one worker is better: every worker holds a model, and large matrix products keep many threads busy.
LARGEST = 200_000_000  # parameters


@dataclass(frozen=True)
class Workers:
    """The workers of one command.

    Attributes:
        at_once: Number of cells that run at the same time.
        threads: Threads of torch in each worker while it trains; None for torch's default.
    """

    at_once: int
    threads: int | None

    @classmethod
    def of(cls, cells: list[Cell]) -> Self:
        """Choose the number of workers from the setting `workers`, the cores and the models.

        Args:
            cells: All cells of the command, recorded or not, so that a resumed command gets the same workers.
        """
        at_once, cores = cells[0].conf.workers, _cores()
        if at_once == "auto":
            on_gpu = gpu_visible() and any(cell.conf.device is not Device.cpu for cell in cells)
            large = any(cell.source.parameters > LARGEST for cell in cells)
            at_once = 1 if on_gpu or large else min(cores, len({cell.id for cell in cells}))
        return cls(at_once, max(1, cores // at_once) if at_once > 1 else None)


def _cores() -> int:
    """Return how many cores this process may use, given its CPU affinity and OMP_NUM_THREADS."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) else available
