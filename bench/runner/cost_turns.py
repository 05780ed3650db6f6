"""Measure the costs of a whole grid in rounds, so that a disturbance of the machine affects all cells alike."""

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
    """Measure the cost of every cell once per round, and record each cell's median round.

    The record also has the speeds of all rounds. Speeds are compared within a round, as ratios to the first cell of the
    grid.

    Args:
        cells: The cells of the grid.
        lookup: Where the costs are recorded.
        display: Shows progress.

    Returns:
        The error (type and message) of each cell that could not be measured, by cell id.
    """
    rounds: dict[str, list[Probed]] = {cell.id: [] for cell in cells}
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
                    rounds[name].append(event)
                    display.say(f"round {len(rounds[name])}/{ROUNDS} {job.cell.title}: {_speed(event):.1f} samples/s")
                case Broken(error=error):
                    broken[name] = error
                    display.say(f"{job.cell.title}: no cost was measured: {first_line(error)}")
    measured = [cell for cell in cells if len(rounds[cell.id]) == ROUNDS]
    for cell in measured:
        recorders[cell.id].write_probe(_median(cell, measured[0], rounds), replaces=True)
    return broken


def _without(jobs: list[Job], broken: dict[str, dict[str, str]]) -> Iterator[Job]:
    """Yield the jobs of cells that have not failed by then."""
    return (job for job in jobs if job.cell.id not in broken)


def _median(cell: Cell, first: Cell, rounds: dict[str, list[Probed]]) -> Probed:
    """Return the median round of a cell, with the speeds of all its rounds and their ratios to the first cell's."""
    speeds = [_speed(probed) for probed in rounds[cell.id]]
    ratios = [speed / _speed(probed) for speed, probed in zip(speeds, rounds[first.id], strict=True)]
    chosen = rounds[cell.id][speeds.index(median(speeds))]
    turns = {"first": first.id, "samples_per_second": speeds, "ratios": ratios}
    return replace(chosen, cost=chosen.cost | {"turns": turns})


def _speed(probed: Probed) -> float:
    """Return the samples per second of training, or of evaluation if nothing is trained."""
    cost = probed.cost
    return float(cost["samples_per_second"] or cost["eval_rows"] / cost["eval_seconds"])
