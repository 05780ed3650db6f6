"""One command's cells: skip what is recorded, run the rest, record every outcome."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench import launch
from bench.cell import Cell, Trial
from bench.events import Broken, Ended, Event, Probed, Ready, Started, Stepped
from bench.progress import Display
from bench.recorded import Lookup
from bench.recorder import Recorder
from bench.track import Tracker, make_tracker

if TYPE_CHECKING:
    from bench.records import Record


class Sweep:
    """The state of one command. jobs: its cells in order; those that differ in trials alone may be equal."""

    def __init__(self, jobs: list[Cell], display: Display) -> None:
        self.display = display
        self.jobs = jobs
        self.lookup = Lookup(self._say)
        self.recorded = 0
        self.todo: dict[Trial, Cell] = {}  # each trial belongs to the first job that names it
        self.again: dict[Trial, str] = {}  # those with a result already, and the setting that wants them once more
        self.unprobed: dict[str, Cell] = {}
        self.ended: dict[Trial, Record] = {}  # how the trials of this command ended, without curves and predictions
        unique: dict[tuple[str, tuple[Trial, ...]], Cell] = {}
        for cell in jobs:
            unique.setdefault((cell.id, cell.trials), cell)
        for cell in unique.values():
            self._plan(cell)
        self.tracker: Tracker | None = None

    def _say(self, line: str) -> None:
        self.display.say(line)

    def _plan(self, cell: Cell) -> None:
        """Find out what is missing of a cell. ValueError: a record of it cannot be read, or there are no texts."""
        extras, force = self.lookup.extras(cell), cell.config["force"]
        if force or self.lookup.wants_probe(cell):
            self.unprobed.setdefault(cell.id, cell)
        for trial in cell.trials:
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
        return list({id(cell): cell for cell in [*self.todo.values(), *self.unprobed.values()]}.values())

    def leave_out(self, misfits: Mapping[str, str]) -> list[str]:
        """Forget the cells of these ids; gives the reasons, each once."""
        named = [cell.id for cell in self.jobs if cell.id in misfits]
        self.jobs = [cell for cell in self.jobs if cell.id not in misfits]
        self.todo = {trial: cell for trial, cell in self.todo.items() if cell.id not in misfits}
        self.unprobed = {name: cell for name, cell in self.unprobed.items() if name not in misfits}
        return list(dict.fromkeys(misfits[name] for name in named))

    def announce(self) -> None:
        """Say what will be trained, what is recorded already, and which cells were named more than once."""
        cells = {cell.id: cell for cell in self.jobs}
        trials, waiting = self.recorded + len(self.todo), len(self.todo)
        again = Counter(why for trial, why in self.again.items() if trial in self.todo)
        reasons = ", ".join(f"{count} trained again for {why}" for why, count in again.items())
        self.display.say(
            f"{len(cells)} cells, {trials} trials: {self.recorded} recorded, {waiting} to train"
            f"{f' ({reasons})' if reasons else ''}"
            f"{f', {len(self.unprobed)} costs to measure' if self.unprobed else ''}"
        )
        named = Counter((cell.id, cell.trials) for cell in self.jobs)
        for (name, _), times in named.items():
            if times > 1:
                cell = cells[name]
                self.display.say(
                    f"{cell.title}: {times} of the jobs are this same cell (it uses {_axes(cell)}); it runs once"
                )

    def run(self, cell: Cell) -> None:
        """Run what is missing of a cell. KeyboardInterrupt: the trials that were running are recorded as such."""
        trials = tuple(trial for trial in cell.trials if self.todo.pop(trial, None))
        probe = self.unprobed.pop(cell.id, None) is not None
        if not trials and not probe:
            return
        if self.tracker is None:
            self.tracker = make_tracker(cell.config["track"], self.display.say)
        self.display.begin_cell(cell.title, len(trials))
        cost = None if probe else self.lookup.cost_of(cell)
        recorder = Recorder(cell, self.lookup, self._say, cost)
        with closing(launch.run(cell, trials, probe=probe)) as events:
            try:
                self._follow(events, recorder, trials, self.tracker)
            except KeyboardInterrupt:
                for trial in list(recorder.running):
                    self._end(recorder, trial, Ended(trial.id, "interrupted"), self.tracker)
                raise

    def _follow(self, events: Iterable[Event], recorder: Recorder, trials: tuple[Trial, ...], tracker: Tracker) -> None:
        by_id = {trial.id: trial for trial in trials}
        left = dict(by_id)
        for event in events:
            match event:
                case Ready(device=device):
                    recorder.device = device
                case Probed():
                    recorder.write_probe(event)
                case Started(trial=name):
                    trial = by_id[name]
                    if trial not in recorder.running and trial not in self.again:
                        tracker.start(recorder.cell, trial)
                    recorder.begin(trial)
                case Stepped(trial=name, curve=curve):
                    recorder.extend(by_id[name], curve)
                    tracker.log(name, curve)
                case Ended(trial=name):
                    self._end(recorder, left.pop(name), event, tracker)
                case Broken():
                    self._break(recorder, left.values(), event, tracker)
            name = by_id[event.trial].name if isinstance(event, (Started, Stepped, Ended)) else ""
            self.display.tell(event, name)

    def _break(self, recorder: Recorder, trials: Collection[Trial], broken: Broken, tracker: Tracker) -> None:
        """Nothing more can be run of a cell: its trials end as it did."""
        for trial in trials:
            ended = Ended(trial.id, broken.outcome, error=broken.error)
            self._end(recorder, trial, ended, tracker)
            self.display.tell(ended, trial.name)
        if not trials:
            self.display.say(f"{recorder.cell.title}: no cost was measured: {_first_line(broken.error)}")

    def _end(self, recorder: Recorder, trial: Trial, ended: Ended, tracker: Tracker) -> None:
        record, written = recorder.write_trial(trial, ended)
        self.ended[trial] = replace(record, curve=None, predictions=None)
        if trial in self.again and written and record.curve:
            tracker.start(recorder.cell, trial)  # only now: opening a run replaces the one of the result before
            tracker.log(trial.id, record.curve)
        tracker.finish(record, recorder.cost)

    def asked(self) -> list[dict[str, Any]]:
        """The cells that are to be trained or recorded already, with the ids of their trials."""
        return [
            {
                "id": cell.id,
                "title": cell.title,
                "model": cell.source.label,
                "task": cell.task,
                "trials": [trial.id for trial in cell.trials],
            }
            for cell in {(cell.id, cell.trials): cell for cell in self.jobs}.values()
        ]

    def summary(self) -> bool:
        """Print how the planned trials ended, in this command or before; True where nothing is wrong or lacking."""
        planned = {trial: cell for cell in self.jobs for trial in cell.trials}
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
        problems += self._unmeasured()
        self.display.say(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
        for problem in problems:
            self.display.say(problem)
        return set(outcomes) <= {"ok"} and not problems

    def _unmeasured(self) -> list[str]:
        """The cells whose cost is not recorded, or not as a whole."""
        lacking = []
        for cell in {cell.id: cell for cell in self.jobs}.values():
            if self.lookup.cost_of(cell) is None:
                probed = self.lookup.read(cell, None)
                lacking.append(f"  no {'latency' if probed else 'cost'}: {cell.title}")
        return lacking


def _axes(cell: Cell) -> str:
    used = " and ".join(cell.config["method"]["uses"]) or "neither rank nor target"
    return f"{used}, up to the model's blocks" if cell.config["method"]["rank_limit"] == "layers" else used


def _first_line(error: Mapping[str, str] | None) -> str:
    lines = ((error or {}).get("message") or (error or {}).get("type") or "").strip().splitlines()
    return lines[0] if lines else ""
