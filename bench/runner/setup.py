"""A cell in its worker, with its data, plan and device, which are the same for the probe, the race and the trials."""

from dataclasses import dataclass
from typing import Any, Self

from bench.cells.cell import Cell
from bench.config.accelerator import gpu_visible
from bench.models.load import linear_weights
from bench.models.speed.speedups import Fast, pick_fast
from bench.runner.build import compute_of, load_data, recipe_of
from bench.train.device import describe_device, notes_on
from bench.train.settings import Plan, Training


@dataclass(frozen=True)
class CellSetup:
    """A cell, ready to be measured, raced and trained.

    Attributes:
        cell: The cell.
        training: Its data, plan, recipe and compute.
        fast: The speedups in use.
    """

    cell: Cell
    training: Training
    fast: Fast

    @classmethod
    def of(cls, cell: Cell) -> Self:
        """Read a cell's data and choose how it is computed.

        Raises:
            ValueError: The data or the device is missing.
        """
        compute, data = compute_of(cell), load_data(cell)
        weights = linear_weights(cell.source, cell.outputs, speaks=cell.form.speaks)
        fast = pick_fast(cell.conf.fast, compute.device, compute.dtype, weights)
        plan = Plan.of(cell.conf.protocol)
        return cls(cell, Training(data.in_multiples(fast.multiple), plan, recipe_of(cell), compute), fast)

    def describe(self) -> dict[str, Any]:
        """Return what a record says about the machine and the speedups.

        Returns:
            The facts by name. `notes`, if present, lists what a user might not expect of the machine or the data.
        """
        compute = self.training.compute
        notes = [
            *self.training.data.notes,
            *notes_on(self.cell.conf.device.value, compute, gpu=gpu_visible()),
        ]
        return {**describe_device(compute), **self.fast.as_dict(), **({"notes": notes} if notes else {})}
