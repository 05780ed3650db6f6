"""One command's cells: skip what is recorded, run the rest, record every outcome."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench import launch
from bench.at_work import AtWork
from bench.cell import Cell, Trial
from bench.job import Job
from bench.progress import Display
from bench.race import Race
from bench.recorded import PROBE, RACE, Lookup
from bench.recorder import Recorder
from bench.track import Tracker, make_tracker
from bench.workers import Workers

if TYPE_CHECKING:
    from bench.records import Record


class Sweep:
    """The state of one command. jobs: its cells in order; those that differ in trials alone may be equal."""

    def __init__(self, jobs: list[Cell], display: Display) -> None:
        self.display = display
        self.jobs = jobs
        self.lookup = Lookup(self._say)
        self.workers = Workers.of(jobs)
        self.recorded = 0
        self.todo: dict[Trial, Cell] = {}  # each trial belongs to the first job that names it
        self.again: dict[Trial, str] = {}  # those with a result already, and the setting that wants them once more
        self.unraced: dict[str, Cell] = {}  # the first job of each cell whose learning rate is not known
        self.unprobed: dict[str, Cell] = {}
        self.ended: dict[Trial, Record] = {}  # how the trials of this command ended, without curves and predictions
        self.broken: dict[str, dict[str, str]] = {}  # why nothing more could be run of a cell, by its id
        for cell in _distinct(jobs):
            self._plan(cell)
        self.locks: dict[str, ExitStack] = {}  # of the races that are held, by their cells' ids
        self.tracker: Tracker | None = None

    def _say(self, line: str) -> None:
        self.display.say(line)

    def _plan(self, cell: Cell) -> None:
        """Find out what is missing of a cell. ValueError: a record of it cannot be read, or there are no texts."""
        force = cell.config["force"]
        if force or self.lookup.wants_probe(cell):
            self.unprobed.setdefault(cell.id, cell)
        race = self.lookup.race_of(cell) if cell.rule and not force else None
        if cell.rule and race is None:
            self.unraced.setdefault(cell.id, cell)
            return
        self._plan_trials(cell, race)

    def _plan_trials(self, cell: Cell, race: Race | None) -> None:
        """Find out which trials are missing of a cell. race: that found its rate, where there is one."""
        extras, force = self.lookup.extras(cell), cell.config["force"]
        for trial in _trials(cell, race):
            record = self.lookup.read(cell, trial)
            lacking = extras.lacking(record) if record else ""
            if record and record.is_final and not lacking and not force:
                self.recorded += 1
                continue
            self.todo.setdefault(trial, cell)
            if record and record.is_final:
                self.again.setdefault(trial, "force=true" if force else lacking)

    @property
    def waiting(self) -> list[Cell]:
        """The jobs that have something to train."""
        cells = [*self.todo.values(), *self.unraced.values(), *self.unprobed.values()]
        order = {id(cell): place for place, cell in enumerate(self.jobs)}
        return sorted({id(cell): cell for cell in cells}.values(), key=lambda cell: order[id(cell)])

    @property
    def work(self) -> float:
        """What there is to train, in whole trainings, if no race is widened."""
        races = (cell.rule.trials + len(cell.config["seeds"]) for cell in self.unraced.values() if cell.rule)
        return len(self.todo) + sum(races)

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

    def announce(self) -> None:
        """Say what will be trained, what is recorded already, and which cells were named more than once."""
        cells = {cell.id: cell for cell in self.jobs}
        waiting = len(self.todo) + sum(len(cell.config["seeds"]) for cell in self.unraced.values())
        again = Counter(why for trial, why in self.again.items() if trial in self.todo)
        reasons = ", ".join(f"{count} trained again for {why}" for why, count in again.items())
        self.display.say(
            f"{len(cells)} cells, {self.recorded + waiting} trials: {self.recorded} recorded, {waiting} to train"
            f"{f' ({reasons})' if reasons else ''}"
            f"{f', {len(self.unraced)} learning rates to tune' if self.unraced else ''}"
            f"{f', {len(self.unprobed)} costs to measure' if self.unprobed else ''}"
        )
        named = Counter((cell.id, _trials(cell, None)) for cell in self.jobs)
        for (name, _), times in named.items():
            if times > 1:
                cell = cells[name]
                self.display.say(
                    f"{cell.title}: {times} of the jobs are this same cell (it uses {_axes(cell)}); it runs once"
                )

    def run(self, cells: list[Cell]) -> None:
        """Run what is missing of some cells, as many at a time as the machine takes.

        Costs are measured first where several train at once, so that nothing else runs meanwhile. KeyboardInterrupt:
        the trials that were running are recorded as such.
        """
        cells = [cell for cell in self.waiting if cell in cells]
        if not cells:
            return
        if self.tracker is None:
            self.tracker = make_tracker(cells[0].config["track"], self.display.say)
        if self.workers.at_once > 1:
            self._work([Job(cell, probe=True) for cell in cells if self.unprobed.pop(cell.id, None)], 1)
        self._work([self._job(cell) for cell in cells], self.workers.at_once)

    def _job(self, cell: Cell) -> Job:
        """Everything that is missing of a cell."""
        race = None
        if self.unraced.get(cell.id) is cell and cell.rule:
            begun = None if cell.config["force"] else self.lookup.begun_race(cell)
            race = begun or Race.begin(cell.rule, cell.config["method"]["lr"])
        return Job(
            cell,
            trials=tuple(trial for trial, owner in self.todo.items() if owner is cell),
            probe=self.unprobed.pop(cell.id, None) is not None,
            race=race,
            seeds=self._seeds(cell),
            recorded=self.lookup.names_recorded(cell) if race else frozenset(),
            threads=self.workers.threads,
        )

    def _seeds(self, cell: Cell) -> tuple[int, ...]:
        """Of the report, in whichever job of a cell they are named."""
        return tuple(dict.fromkeys(seed for job in self.jobs if job.id == cell.id for seed in job.config["seeds"]))

    def _work(self, jobs: list[Job], at_once: int) -> None:
        """Run jobs and follow each."""
        at_work: dict[int, AtWork] = {}
        with closing(launch.run(self._in_turn(jobs), at_once)) as events:
            try:
                for job, event in events:
                    cell = at_work.get(id(job)) or at_work.setdefault(id(job), self._begin(job))
                    if event is not None:
                        cell.follow(event)
                    else:
                        self._end(at_work.pop(id(job)))
            except KeyboardInterrupt:
                for cell in at_work.values():
                    cell.interrupt()
                    self._end(cell)
                raise

    def _in_turn(self, jobs: list[Job]) -> Iterator[Job | None]:
        """The jobs that there is anything to do in; one whose race another process holds waits for it."""
        waiting = jobs
        while waiting:
            put_off = []
            for job in waiting:
                if job.race is not None:
                    if not self._lock(job.cell):
                        self.display.say_once(f"{job.cell.title}: waiting for its race, which another process holds")
                        put_off.append(job)
                        continue
                    job = self._again(job)  # noqa: PLW2901 - another process may have held it meanwhile
                if job.trials or job.probe or job.race:
                    yield job
            waiting = put_off
            if waiting:
                yield None

    def _lock(self, cell: Cell) -> bool:
        """Take the race of a cell; False where another process has it."""
        with ExitStack() as lock:
            if not lock.enter_context(self.lookup.hold_race(cell)):
                return False
            self.locks[cell.id] = lock.pop_all()
        return True

    def _again(self, job: Job) -> Job:
        """A job whose race may have been held meanwhile."""
        cell = job.cell
        if cell.config["force"]:
            return job
        if (race := self.lookup.race_of(cell)) is None:
            return replace(job, race=self.lookup.begun_race(cell) or job.race)
        self._raced(cell, race)
        return replace(job, trials=tuple(self._take(cell)), race=None)

    def _begin(self, job: Job) -> AtWork:
        cell = job.cell
        assert self.tracker is not None  # noqa: S101 - `run` has made it
        seeds = len(job.seeds) if job.race else 0
        shown = self.display.begin_cell(cell.id, cell.title, len(job.trials) + seeds)
        recorder = Recorder(cell, self.lookup, self._say, None if job.probe else self.lookup.cost_of(cell))
        trials = job.trials

        def raced(race: Race) -> list[Trial]:
            self._raced(cell, race)
            return self._take(cell)

        return AtWork(recorder, self.tracker, shown, trials, self.again, raced)

    def _end(self, cell: AtWork) -> None:
        cell.shown.end()
        self._unlock(cell.cell)
        self.ended |= cell.ended
        if cell.broken is not None:
            self.broken[cell.cell.id] = cell.broken

    def _unlock(self, cell: Cell) -> None:
        if lock := self.locks.pop(cell.id, None):
            lock.close()

    def _raced(self, cell: Cell, race: Race) -> None:
        """A cell's rate is found: plan the trials of all jobs that name it."""
        self.unraced.pop(cell.id, None)
        self._unlock(cell)
        for job in _distinct(self.jobs):
            if job.id == cell.id and job.rule:
                self._plan_trials(job, race)

    def _take(self, cell: Cell) -> list[Trial]:
        """The trials of a cell that are to be trained, in whichever job they are named."""
        return [trial for trial in self.todo if trial.cell_id == cell.id]

    def asked(self) -> list[dict[str, Any]]:
        """The cells that are to be trained or recorded already, with the ids of their trials as far as known."""
        return [
            {
                "id": cell.id,
                "title": cell.title,
                "model": cell.source.label,
                "task": cell.task,
                "trials": [trial.id for trial in self._trials(cell)],
            }
            for cell in _distinct(self.jobs)
        ]

    def _trials(self, cell: Cell) -> tuple[Trial, ...]:
        """The trials of a cell; none where its rate is not known."""
        return _trials(cell, self.lookup.race_of(cell) if cell.rule else None)

    def summary(self) -> bool:
        """Print how the planned trials ended, in this command or before; True where nothing is wrong or lacking."""
        planned = {trial: cell for cell in self.jobs for trial in self._trials(cell)}
        outcomes: Counter[str] = Counter()
        problems = []
        for trial, cell in planned.items():
            stored = self.lookup.read(cell, trial)
            record = self.ended.get(trial, stored)
            outcomes["missing" if record is None else record.outcome] += 1
            if record is None:
                continue
            name, why = f"{cell.title} {trial.id}", _first_line(record.error)
            if record.outcome != "ok":
                problems.append(f"  {record.outcome}: {name}: {why}")
            elif stored is not None and (lacking := self.lookup.extras(cell).lacking(stored)):
                problems.append(f"  without {lacking}: {name}: {why}")
        problems += [*self._untuned(), *self._unmeasured()]
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        self.display.say(counts or "nothing was trained")
        for problem in problems:
            self.display.say(problem)
        return set(outcomes) <= {"ok"} and not problems

    def _untuned(self) -> list[str]:
        """The cells whose learning rate is not known."""
        lacking = []
        for cell in {cell.id: cell for cell in self.jobs if cell.rule}.values():
            if self.lookup.race_of(cell) is None:
                record = self.lookup.read(cell, RACE)
                why = _first_line(self.broken.get(cell.id) or (record.error if record else None))
                lacking.append(f"  no learning rate: {cell.title}{f': {why}' if why else ''}")
        return lacking

    def _unmeasured(self) -> list[str]:
        """The cells whose cost is not recorded, or not as a whole."""
        lacking = []
        for cell in {cell.id: cell for cell in self.jobs}.values():
            if self.lookup.cost_of(cell) is None:
                probed = self.lookup.read(cell, PROBE)
                lacking.append(f"  no {'latency' if probed else 'cost'}: {cell.title}")
        return lacking


def _distinct(jobs: list[Cell]) -> list[Cell]:
    """The jobs without those that are equal to an earlier one."""
    found: dict[tuple[str, tuple[Trial, ...]], Cell] = {}
    for cell in jobs:
        found.setdefault((cell.id, cell.trials or cell.trials_at([0.0])), cell)
    return list(found.values())


def _trials(cell: Cell, race: Race | None) -> tuple[Trial, ...]:
    """The trials that a cell asks for, as far as its rate is known. race: that found it."""
    return cell.trials_at([race.lr]) if cell.rule and race is not None and race.lr is not None else cell.trials


def _axes(cell: Cell) -> str:
    used = " and ".join(cell.config["method"]["uses"]) or "neither rank nor target"
    return f"{used}, up to the model's blocks" if cell.config["method"]["rank_limit"] == "layers" else used


def _first_line(error: Mapping[str, str] | None) -> str:
    lines = ((error or {}).get("message") or (error or {}).get("type") or "").strip().splitlines()
    return lines[0] if lines else ""
