"""What is missing of one command's cells: which races, costs and trials are not recorded yet."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race
from bench.config.enums import Tune
from bench.records.lookup import Lookup


class Backlog:
    """What a command has to do. jobs: its cells in order; those that differ in trials alone may be equal."""

    def __init__(self, jobs: list[Cell], say: Callable[[str], None]) -> None:
        self.jobs = jobs
        self.lookup = Lookup(say)
        self.recorded = 0
        self.todo: dict[Trial, Cell] = {}  # each trial belongs to the first job that names it
        self.again: dict[Trial, str] = {}  # those with a result already, and the setting that wants them once more
        self.unraced: dict[str, Cell] = {}  # the first job of each cell whose learning rate is not known
        self.unprobed: dict[str, Cell] = {}
        for cell in _distinct(jobs):
            self._plan(cell)

    def _plan(self, cell: Cell) -> None:
        """Find out what is missing of a cell. ValueError: a record of it cannot be read, or there are no texts."""
        force = cell.conf.force
        if force or self.lookup.wants_probe(cell):
            self.unprobed.setdefault(cell.id, cell)
        race = self.lookup.race_of(cell) if cell.rule and not force else None
        if cell.rule and race is None:
            self.unraced.setdefault(cell.id, cell)
            return
        self._plan_trials(cell, race)

    def _plan_trials(self, cell: Cell, race: Race | None) -> None:
        """Find out which trials are missing of a cell. race: that found its rate, where there is one."""
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
        """A cell's rate is found: plan the trials of all jobs that name it."""
        self.unraced.pop(cell.id, None)
        for job in _distinct(self.jobs):
            if job.id == cell.id and job.rule:
                self._plan_trials(job, race)

    @property
    def waiting(self) -> list[Cell]:
        """The jobs that have something to train."""
        cells = [*self.todo.values(), *self.unraced.values(), *self.unprobed.values()]
        order = {id(cell): place for place, cell in enumerate(self.jobs)}
        return sorted({id(cell): cell for cell in cells}.values(), key=lambda cell: order[id(cell)])

    @property
    def races(self) -> list[Cell]:
        """The cells whose races are to be held."""
        return [cell for cell in self.unraced.values() if self.leader_of(cell) is cell]

    def leader_of(self, cell: Cell) -> Cell:
        """The cell whose race finds a cell's rate: itself, or the first of the command that shares its tuning."""
        if cell.conf.tune is not Tune.once:
            return cell
        return next((job for job in self.jobs if job.rule and _tuned_alike(job) == _tuned_alike(cell)), cell)

    @property
    def work(self) -> float:
        """What there is to train, in whole trainings, if no race is widened."""
        races = sum(cell.rule.trials for cell in self.races if cell.rule)
        return len(self.todo) + races + sum(len(cell.conf.seeds) for cell in self.unraced.values())

    def leave_out(self, misfits: Mapping[str, str]) -> list[str]:
        """Forget the cells of these ids; gives the reasons, each once."""
        named = [cell.id for cell in self.jobs if cell.id in misfits]
        self.jobs = [cell for cell in self.jobs if cell.id not in misfits]
        self.todo = {trial: cell for trial, cell in self.todo.items() if cell.id not in misfits}
        self.unraced, self.unprobed = (
            {name: cell for name, cell in cells.items() if name not in misfits}
            for cells in (self.unraced, self.unprobed)
        )
        return list(dict.fromkeys(misfits[name] for name in named))

    def trials_of(self, cell: Cell) -> list[Trial]:
        """The trials of a cell that are to be trained, in whichever job they are named."""
        return [trial for trial in self.todo if trial.cell_id == cell.id]

    def seeds_of(self, cell: Cell) -> tuple[int, ...]:
        """Of the report, in whichever job of a cell they are named."""
        return tuple(dict.fromkeys(seed for job in self.jobs if job.id == cell.id for seed in job.conf.seeds))

    def asked(self) -> list[dict[str, Any]]:
        """The cells that are to be trained or recorded already, with the ids of their trials as far as known."""
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
        """The trials of a cell; none where its rate is not known."""
        return _trials_at(cell, self.lookup.race_of(cell) if cell.rule else None)


def _tuned_alike(cell: Cell) -> str:
    """What cells share that take one rate under `tune=once`: everything but rank, target and what follows from them."""
    shared = {key: value for key, value in cell.identity.items() if key not in {"method", "rank", "target"}}
    return json.dumps([cell.method, cell.scale, cell.base, cell.optim, shared], sort_keys=True)


def _distinct(jobs: list[Cell]) -> list[Cell]:
    """The jobs without those that are equal to an earlier one."""
    found: dict[tuple[str, tuple[Trial, ...]], Cell] = {}
    for cell in jobs:
        found.setdefault((cell.id, cell.trials or cell.trials_at([0.0])), cell)
    return list(found.values())


def _trials_at(cell: Cell, race: Race | None) -> tuple[Trial, ...]:
    """The trials that a cell asks for, as far as its rate is known. race: that found it."""
    return cell.trials_at([race.lr]) if cell.rule and race is not None and race.lr is not None else cell.trials
