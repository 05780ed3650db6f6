"""Run one command's cells: skip what is recorded, run the rest and record every outcome."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race
from bench.cli import counted
from bench.config.enums import RankLimit
from bench.records.lookup import PROBE, RACE
from bench.records.record import first_line
from bench.runner import launch
from bench.runner.backlog import Backlog
from bench.runner.cell_at_work import AtWork
from bench.runner.job import Job
from bench.runner.progress import Display
from bench.runner.recorder import Recorder
from bench.runner.wandb_runs import NoTracker, Tracker, make_tracker
from bench.runner.workers import Workers

if TYPE_CHECKING:
    from bench.records.record import Record


class Sweep:
    """Runs one command.

    Args:
        jobs: The command's cells in order. Cells that differ only in their trials have the same id.
        display: Shows progress.

    Attributes:
        backlog: What is missing.
        lookup: The records of the cells.
        workers: How many cells run at the same time.
        ended: How the trials of this command ended, without curves and predictions.
        broken: Why a cell could not continue (type and message), by cell id.
        locks: Locks of the races that are running, by cell id.
        tracker: Writes to W&B; does nothing until there is something to run.

    Raises:
        ValueError: A record cannot be read, or there are no texts for `retain`.
    """

    def __init__(self, jobs: list[Cell], display: Display) -> None:
        self.display = display
        self.backlog = Backlog(jobs, self._say)
        self.lookup = self.backlog.lookup
        self.workers = Workers.of(jobs)
        self.ended: dict[Trial, Record] = {}
        self.broken: dict[str, dict[str, str]] = {}
        self.locks: dict[str, ExitStack] = {}
        self.tracker: Tracker = NoTracker()

    def _say(self, line: str) -> None:
        self.display.say(line)

    def announce(self) -> None:
        """Print what will be trained, what is already recorded, and which cells were named more than once."""
        backlog = self.backlog
        cells = {cell.id: cell for cell in backlog.jobs}
        waiting = len(backlog.todo) + sum(len(cell.conf.seeds) for cell in backlog.unraced.values())
        again = Counter(setting for trial, setting in backlog.again.items() if trial in backlog.todo)
        reasons = ", ".join(f"{count} trained again for {setting}" for setting, count in again.items())
        self.display.say(
            f"{counted(len(cells), 'cell')}, {counted(backlog.recorded + waiting, 'trial')}: "
            f"{backlog.recorded:,} recorded, {waiting:,} to train"
            f"{f' ({reasons})' if reasons else ''}"
            f"{_count_to_do(len(backlog.races), 'learning rate', 'to tune')}"
            f"{_count_to_do(len(backlog.unprobed), 'cost', 'to measure')}"
        )
        named = Counter((cell.id, cell.trials) for cell in backlog.jobs)
        for (name, _), times in named.items():
            if times > 1:
                cell = cells[name]
                self.display.say(f"{cell.title}: {times} jobs are this same cell (it uses {_axes(cell)}); it runs once")

    def run(self) -> None:
        """Run what is missing, with as many cells at the same time as `workers` allows.

        If several cells train at the same time, all costs are measured before, one at a time, so that nothing else runs
        during a measurement.

        Raises:
            KeyboardInterrupt: The user pressed Ctrl-C. Running trials have been recorded as interrupted.
        """
        cells, unprobed = self.backlog.waiting, self.backlog.unprobed
        if not cells:
            return
        self.tracker = make_tracker(cells[0].conf.track, self.display.say)
        if self.workers.at_once > 1:
            self._work([Job(cell, probe=True) for cell in cells if unprobed.get(cell.id) is cell], 1)
            unprobed.clear()
        self._work([self._job(cell) for cell in cells], self.workers.at_once)
        self.tracker.close()

    def _job(self, cell: Cell) -> Job:
        """Return a job with everything that is missing of a cell."""
        race, backlog = None, self.backlog
        if backlog.unraced.get(cell.id) is cell and cell.rule:
            begun = None if cell.conf.force else self.lookup.begun_race(cell)
            race = begun or Race.begin(cell.rule, cell.published)
        return Job(
            cell,
            trials=tuple(trial for trial, owner in backlog.todo.items() if owner is cell),
            probe=backlog.unprobed.get(cell.id) is cell,
            race=race,
            seeds=backlog.seeds_of(cell),
            recorded=self.lookup.names_recorded(cell) if race else frozenset(),
            threads=self.workers.threads,
        )

    def _work(self, jobs: list[Job], at_once: int) -> None:
        """Run jobs and follow the events of each."""
        at_work: dict[int, AtWork] = {}
        with closing(launch.run_jobs(self._ready_jobs(jobs), at_once)) as events:
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

    def _ready_jobs(self, jobs: list[Job]) -> Iterator[Job | None]:
        """Yield the jobs that have work, or None while all remaining jobs wait for another race.

        A job waits while another process runs its race, or while the cell that finds its rate is not finished.
        """
        waiting = jobs
        while waiting:
            put_off = []
            for job in waiting:
                if job.race is not None and self.backlog.leader_of(job.cell).id != job.cell.id:
                    if self._leader_races(job.cell):
                        put_off.append(job)
                        continue
                    job = self._after_leader(job)  # noqa: PLW2901 - its trials are known now
                elif job.race is not None:
                    if not self._lock(job.cell):
                        self.display.say_once(
                            f"{job.cell.title}: waiting for its race, which another process is running"
                        )
                        put_off.append(job)
                        continue
                    job = self._reread_race(job)  # noqa: PLW2901 - another process may have run it in the meantime
                if job.trials or job.probe or job.race:
                    yield job
            waiting = put_off
            if waiting:
                yield None

    def _leader_races(self, cell: Cell) -> bool:
        """Return whether the race that finds a cell's rate is still pending or running."""
        leader = self.backlog.leader_of(cell)
        return leader.id in self.backlog.unraced and leader.id not in self.broken

    def _after_leader(self, job: Job) -> Job:
        """Return a job with its trials at the rate that another cell's race found, or without work if it found none."""
        cell, leader = job.cell, self.backlog.leader_of(job.cell)
        race = self.lookup.race_of(leader)
        if race is None:
            self._say(f"{cell.title}: not trained, because the race of {leader.title} found no learning rate")
            return replace(job, trials=(), race=None)
        carried = replace(race, of=leader.id)
        Recorder(cell, self.lookup, self._say, None).write_race(carried)
        self._raced(cell, carried)
        return replace(job, trials=tuple(self.backlog.trials_of(cell)), race=None)

    def _lock(self, cell: Cell) -> bool:
        """Lock the race of a cell; return False if another process holds the lock."""
        with ExitStack() as lock:
            if not lock.enter_context(self.lookup.hold_race(cell)):
                return False
            self.locks[cell.id] = lock.pop_all()
        return True

    def _reread_race(self, job: Job) -> Job:
        """Return a job updated for a race that another process may have run or begun in the meantime."""
        cell = job.cell
        if cell.conf.force:
            return job
        if (race := self.lookup.race_of(cell)) is None:
            return replace(job, race=self.lookup.begun_race(cell) or job.race)
        self._raced(cell, race)
        return replace(job, trials=tuple(self.backlog.trials_of(cell)), race=None)

    def _begin(self, job: Job) -> AtWork:
        """Start to follow the cell of a job."""
        cell = job.cell
        seeds = len(job.seeds) if job.race else 0
        shown = self.display.begin_cell(cell.id, cell.title, len(job.trials) + seeds)
        recorder = Recorder(cell, self.lookup, self._say, None if job.probe else self.lookup.cost_of(cell))

        def raced(race: Race) -> list[Trial]:
            self._raced(cell, race)
            return self.backlog.trials_of(cell)

        return AtWork(recorder, self.tracker, shown, job.trials, self.backlog.again, raced)

    def _end(self, cell: AtWork) -> None:
        """Collect what a cell left when its job ended."""
        cell.shown.end()
        self._unlock(cell.cell)
        self.ended |= cell.ended
        if cell.broken is not None:
            self.broken[cell.cell.id] = cell.broken

    def _unlock(self, cell: Cell) -> None:
        if lock := self.locks.pop(cell.id, None):
            lock.close()

    def _raced(self, cell: Cell, race: Race) -> None:
        """Plan a cell's trials after its race has ended, with or without a rate."""
        self.backlog.settle(cell, race)
        self._unlock(cell)

    def summary(self) -> bool:
        """Print how the planned trials ended, in this command or an earlier one.

        Returns:
            Whether every trial ended ok and nothing is missing.
        """
        planned = {trial: cell for cell in self.backlog.jobs for trial in self.backlog.trials(cell)}
        outcomes: Counter[str] = Counter()
        problems = []
        for trial, cell in planned.items():
            stored = self.lookup.read(cell, trial)
            record = self.ended.get(trial, stored)
            outcomes["missing" if record is None else record.outcome] += 1
            if record is None:
                continue
            name, message = f"{cell.title} {trial.id}", first_line(record.error)
            if record.outcome != "ok":
                problems.append(f"  {record.outcome}: {name}: {message}")
            elif stored is not None and (lacking := self.lookup.extras(cell).lacking(stored)):
                problems.append(f"  without {lacking}: {name}: {message}")
        problems += [*self._untuned(), *self._unmeasured()]
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        self.display.say(counts or "nothing was trained")
        for problem in problems:
            self.display.say(problem)
        return set(outcomes) <= {"ok"} and not problems

    def _untuned(self) -> list[str]:
        """Return a line for each cell whose learning rate is not known."""
        lines = []
        for cell in {cell.id: cell for cell in self.backlog.jobs if cell.rule}.values():
            if self.lookup.race_of(cell) is None:
                record = self.lookup.read(cell, RACE)
                message = first_line(self.broken.get(cell.id) or (record.error if record else None))
                lines.append(f"  no learning rate: {cell.title}{f': {message}' if message else ''}")
        return lines

    def _unmeasured(self) -> list[str]:
        """Return a line for each cell whose cost is not recorded, or lacks the latency."""
        lines = []
        for cell in {cell.id: cell for cell in self.backlog.jobs}.values():
            if self.lookup.cost_of(cell) is None:
                probed = self.lookup.read(cell, PROBE)
                lines.append(f"  no {'latency' if probed else 'cost'}: {cell.title}")
        return lines


def _count_to_do(number: int, noun: str, to_do: str) -> str:
    """Return text such as ", 2 costs to measure"; empty for 0."""
    return f", {counted(number, noun)} {to_do}" if number else ""


def _axes(cell: Cell) -> str:
    """Name the axes of a grid that the cell's method uses."""
    used = " and ".join(cell.conf.method.uses) or "neither rank nor target"
    return f"{used}, up to the model's blocks" if cell.conf.method.rank_limit is RankLimit.layers else used
