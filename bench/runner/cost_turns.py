"""The costs of a whole grid, measured in turns: what the machine does to one round, it does to all cells alike."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from statistics import median

from bench.cells.cell import Cell
from bench.events import Broken, Probed, Ready
from bench.records.lookup import Lookup
from bench.records.record import first_line
from bench.runner import launch
from bench.runner.job import Job
from bench.runner.progress import Display
from bench.runner.recorder import Recorder

ROUNDS = 3


def measure_in_turns(cells: list[Cell], lookup: Lookup, display: Display) -> dict[str, dict[str, str]]:
    """Measure the cost of every cell once a round, and record each cell's median round with all of them.

    Speeds are compared within a round, as ratios to the first cell of the grid.

    Returns:
        The error of each cell that could not be measured, by its id: type and message.
    """
    found: dict[str, list[Probed]] = {cell.id: [] for cell in cells}
    recorders = {cell.id: Recorder(cell, lookup, display.say, None) for cell in cells}
    broken: dict[str, dict[str, str]] = {}
    jobs = [Job(cell, probe=True) for _ in range(ROUNDS) for cell in cells]
    with closing(launch.run_jobs(_without(jobs, broken), 1)) as events:
        for job, event in events:
            name = job.cell.id
            match event:
                case Ready(device=device):
                    recorders[name].device = device
                case Probed():
                    found[name].append(event)
                    display.say(f"round {len(found[name])}/{ROUNDS} {job.cell.title}: {_speed(event):.1f} samples/s")
                case Broken(error=error):
                    broken[name] = error
                    display.say(f"{job.cell.title}: no cost was measured: {first_line(error)}")
    whole = [cell for cell in cells if len(found[cell.id]) == ROUNDS]
    for cell in whole:
        recorders[cell.id].write_probe(_median(cell, whole[0], found), replaces=True)
    return broken


def _without(jobs: list[Job], broken: dict[str, dict[str, str]]) -> Iterator[Job]:
    """The jobs of cells that can be measured."""
    return (job for job in jobs if job.cell.id not in broken)


def _median(cell: Cell, first: Cell, found: dict[str, list[Probed]]) -> Probed:
    """The median round of a cell, with the speeds of all its rounds and their ratios to the first cell's."""
    speeds = [_speed(one) for one in found[cell.id]]
    ratios = [speed / _speed(one) for speed, one in zip(speeds, found[first.id], strict=True)]
    chosen = found[cell.id][speeds.index(median(speeds))]
    turns = {"first": first.id, "samples_per_second": speeds, "ratios": ratios}
    return replace(chosen, cost=chosen.cost | {"turns": turns})


def _speed(probed: Probed) -> float:
    """Samples per second of training; of evaluation where nothing is trained."""
    cost = probed.cost
    return float(cost["samples_per_second"] or cost["eval_rows"] / cost["eval_seconds"])
