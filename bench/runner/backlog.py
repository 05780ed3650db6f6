"""Find what is missing of one command's cells: races, costs and trials that are not recorded yet."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race
from bench.config.enums import Tune
from bench.records.lookup import Lookup


class Backlog:
    """What a command has to do.

    Args:
        jobs: The command's cells in order. Cells that differ only in their trials have the same id.
        say: Shows a line to the user.

    Attributes:
        jobs: The cells, without those that were left out.
        lookup: The records of the cells.
        recorded: Number of trials that are already recorded.
        todo: The trials to train. Each trial belongs to the first job that names it.
        again: Trials that already have a result, with the setting that requires them again.
        unraced: The first job of each cell whose learning rate is not known, by cell id.
        unprobed: The first job of each cell whose cost must be measured, by cell id.

    Raises:
        ValueError: A record cannot be read, or there are no texts for `retain`.
    """

    def __init__(self, jobs: list[Cell], say: Callable[[str], None]) -> None:
        self.jobs = jobs
        self.lookup = Lookup(say)
        self.recorded = 0
        self.todo: dict[Trial, Cell] = {}
        self.again: dict[Trial, str] = {}
        self.unraced: dict[str, Cell] = {}
        self.unprobed: dict[str, Cell] = {}
        for cell in _distinct(jobs):
            self._plan(cell)

    def _plan(self, cell: Cell) -> None:
        """Find what is missing of a cell. Raises ValueError if a record cannot be read or there are no texts."""
        force = cell.conf.force
        if force or self.lookup.wants_probe(cell):
            self.unprobed.setdefault(cell.id, cell)
        race = self.lookup.race_of(cell) if cell.rule and not force else None
        if cell.rule and race is None:
            self.unraced.setdefault(cell.id, cell)
            return
        self._plan_trials(cell, race)

    def _plan_trials(self, cell: Cell, race: Race | None) -> None:
        """Find which trials of a cell are missing. `race` is the race that found its rate, if there is one."""
        extras, force = self.lookup.extras(cell), cell.conf.force
        for trial in _trials_at(cell, race):
            record = self.lookup.read(cell, trial)
            lacking = extras.lacking(record) if record else ""
            if record and record.is_final and not lacking and not force:
                self.recorded += 1
                continue
            self.todo.setdefault(trial, cell)
            if record and record.is_final:
                self.again.setdefault(trial, "force=true" if force else lacking)

    def settle(self, cell: Cell, race: Race) -> None:
        """Plan the trials of a cell after its race, for all jobs that name it.

        Args:
            cell: The cell.
            race: The finished race.
        """
        self.unraced.pop(cell.id, None)
        for job in _distinct(self.jobs):
            if job.id == cell.id and job.rule:
                self._plan_trials(job, race)

    @property
    def waiting(self) -> list[Cell]:
        """The jobs with something to train or measure, in order."""
        cells = [*self.todo.values(), *self.unraced.values(), *self.unprobed.values()]
        positions = {id(cell): position for position, cell in enumerate(self.jobs)}
        return sorted({id(cell): cell for cell in cells}.values(), key=lambda cell: positions[id(cell)])

    @property
    def races(self) -> list[Cell]:
        """The cells whose races must be run."""
        return [cell for cell in self.unraced.values() if self.leader_of(cell) is cell]

    def leader_of(self, cell: Cell) -> Cell:
        """Return the cell whose race finds a cell's learning rate.

        Args:
            cell: A cell with a race.

        Returns:
            The cell itself, or under `tune=once` the first cell of the command that shares its tuning.
        """
        if cell.conf.tune is not Tune.once:
            return cell
        return next((job for job in self.jobs if job.rule and _tuned_alike(job) == _tuned_alike(cell)), cell)

    @property
    def work(self) -> float:
        """The work left to train, in full trainings, if no race is widened."""
        races = sum(cell.rule.trials for cell in self.races if cell.rule)
        return len(self.todo) + races + sum(len(cell.conf.seeds) for cell in self.unraced.values())

    def leave_out(self, misfits: Mapping[str, str]) -> list[str]:
        """Remove cells from the backlog.

        Args:
            misfits: The reason for leaving out a cell, by cell id.

        Returns:
            The distinct reasons of the cells that were removed, in order.
        """
        left_out = [cell.id for cell in self.jobs if cell.id in misfits]
        self.jobs = [cell for cell in self.jobs if cell.id not in misfits]
        self.todo = {trial: cell for trial, cell in self.todo.items() if cell.id not in misfits}
        self.unraced, self.unprobed = (
            {name: cell for name, cell in cells.items() if name not in misfits}
            for cells in (self.unraced, self.unprobed)
        )
        return list(dict.fromkeys(misfits[name] for name in left_out))

    def trials_of(self, cell: Cell) -> list[Trial]:
        """Return the trials of a cell to train, from all jobs that name it."""
        return [trial for trial in self.todo if trial.cell_id == cell.id]

    def seeds_of(self, cell: Cell) -> tuple[int, ...]:
        """Return the seeds of the report for a cell, from all jobs that name it."""
        return tuple(dict.fromkeys(seed for job in self.jobs if job.id == cell.id for seed in job.conf.seeds))

    def asked(self) -> list[dict[str, Any]]:
        """Return the cells of the command, recorded or not, for its manifest.

        Returns:
            One dictionary per cell: id, title, model, task and the ids of its trials. `trials` is empty while the
            learning rate is not known.
        """
        return [
            {
                "id": cell.id,
                "title": cell.title,
                "model": cell.source.label,
                "task": cell.task,
                "trials": [trial.id for trial in self.trials(cell)],
            }
            for cell in _distinct(self.jobs)
        ]

    def trials(self, cell: Cell) -> tuple[Trial, ...]:
        """Return the trials of a cell; empty if its learning rate is not known."""
        return _trials_at(cell, self.lookup.race_of(cell) if cell.rule else None)


def _tuned_alike(cell: Cell) -> str:
    """Return a key that is equal for cells with a common rate under `tune=once`.

    It covers everything except rank, target and what follows from them.
    """
    shared = {key: value for key, value in cell.identity.items() if key not in {"method", "rank", "target"}}
    return json.dumps([cell.method, cell.scale, cell.base, cell.optim, shared], sort_keys=True)


def _distinct(jobs: list[Cell]) -> list[Cell]:
    """Return the jobs without duplicates of earlier ones."""
    distinct: dict[tuple[str, tuple[Trial, ...]], Cell] = {}
    for cell in jobs:
        distinct.setdefault((cell.id, cell.trials or cell.trials_at([0.0])), cell)
    return list(distinct.values())


def _trials_at(cell: Cell, race: Race | None) -> tuple[Trial, ...]:
    """Return the trials of a cell, at the rate that the race found if the cell is tuned."""
    return cell.trials_at([race.lr]) if cell.rule and race is not None and race.lr is not None else cell.trials
