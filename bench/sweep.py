"""One command's cells: skip what is recorded, run the rest, record every outcome."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from bench import launch, records
from bench.cell import Cell, Trial
from bench.events import Broken, Ended, Event, Probed, Ready, Started, Stepped
from bench.progress import Display
from bench.provenance import provenance
from bench.recorded import cost_of, missing, path_of
from bench.records import Record
from bench.track import Tracker, make_tracker


@dataclass
class Recorder:
    """Gathers a cell's events into records and writes them."""

    cell: Cell
    cost: dict[str, Any] | None  # the cell's, once it is known
    device: dict[str, Any] = field(default_factory=dict)
    running: dict[Trial, dict[str, list[float]]] = field(default_factory=dict)  # with their curves so far

    def begin(self, trial: Trial) -> None:
        """A trial starts, or starts again with fewer beside it."""
        self.running[trial] = {}

    def extend(self, trial: Trial, piece: dict[str, list[float]]) -> None:
        for key, values in piece.items():
            self.running[trial].setdefault(key, []).extend(values)

    def write_probe(self, probed: Probed) -> None:
        self.cost = probed.cost
        blank = self._blank("probe", None, "ok", None)
        records.write(path_of(self.cell, None), replace(blank, cost=probed.cost, truth=probed.truth))

    def write_trial(self, trial: Trial, ended: Ended) -> Record:
        record = replace(
            self._blank("trial", trial, ended.outcome, ended.error),
            scores=ended.scores,
            predictions=ended.predictions,
            cost=ended.cost,
            curve=self.running.pop(trial, None) or None,
            saved=ended.saved,
        )
        records.write(path_of(self.cell, trial), record)
        return record

    def _blank(self, kind: str, trial: Trial | None, outcome: str, error: dict[str, str] | None) -> Record:
        cell = self.cell
        return Record(
            kind=kind,
            cell={
                "id": cell.id,
                "title": cell.title,
                "model": cell.source.label,
                "task": cell.task,
                "method": cell.method,
                "rank": cell.rank,
                "target": cell.target,
                "base": cell.base,
                "optim": cell.optim,
                "checkpointing": cell.checkpointing,
                "random": cell.source.random,
            },
            trial=None if trial is None else {"id": trial.id, "lr": trial.lr, "seed": trial.seed},
            outcome=outcome,
            error=error,
            scores=None,
            predictions=None,
            curve=None,
            cost=None,
            identity=cell.identity,
            config=cell.config,
            provenance={**provenance(), **self.device},
        )


class Sweep:
    """The state of one command. jobs: its cells in order; those that differ in trials alone may be equal."""

    def __init__(self, jobs: list[Cell], display: Display) -> None:
        self.display = display
        self.jobs = jobs
        self.recorded = 0
        self.todo: dict[Trial, Cell] = {}  # each trial belongs to the first job that names it
        self.unprobed: dict[str, Cell] = {}
        unique: dict[tuple[str, tuple[Trial, ...]], Cell] = {}
        for cell in jobs:
            unique.setdefault((cell.id, cell.trials), cell)
        for cell in unique.values():
            waiting = missing(cell, display.say)
            if cost_of(cell, display.say) is None:
                self.unprobed.setdefault(cell.id, cell)
            self.recorded += len(cell.trials) - len(waiting)
            for trial in waiting:
                self.todo.setdefault(trial, cell)
        self.tracker: Tracker | None = None

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
        self.display.say(
            f"{len(cells)} cells, {trials} trials: {self.recorded} recorded, {waiting} to train"
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
        recorder = Recorder(cell, cost=None if probe else cost_of(cell, self.display.say))
        with closing(launch.run(cell, trials, probe=probe)) as events:
            try:
                self._follow(events, recorder, trials, self.tracker)
            except KeyboardInterrupt:
                for trial in list(recorder.running):
                    record = recorder.write_trial(trial, Ended(trial.id, "interrupted"))
                    self.tracker.finish(record, recorder.cost)
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
                    if by_id[name] not in recorder.running:
                        tracker.start(recorder.cell, by_id[name])
                    recorder.begin(by_id[name])
                case Stepped(trial=name, curve=curve):
                    recorder.extend(by_id[name], curve)
                    tracker.log(name, curve)
                case Ended(trial=name):
                    record = recorder.write_trial(left.pop(name), event)
                    tracker.finish(record, recorder.cost)
                case Broken(outcome=outcome, error=error):
                    for trial in left.values():
                        ended = Ended(trial.id, outcome, error=error)
                        tracker.finish(recorder.write_trial(trial, ended), recorder.cost)
                        self.display.tell(ended, trial.name)
            name = by_id[event.trial].name if isinstance(event, (Started, Stepped, Ended)) else ""
            self.display.tell(event, name)

    def summary(self) -> bool:
        """Print how the planned trials ended, as their records say; True where all are ok."""
        planned = {trial: cell for cell in self.jobs for trial in cell.trials}
        found = [records.read_if_there(path_of(cell, trial), self.display.say) for trial, cell in planned.items()]
        outcomes = Counter("missing" if record is None else record.outcome for record in found)
        self.display.say(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
        for record in found:
            if record is not None and record.outcome != "ok" and record.trial is not None:
                why = (record.error or {}).get("message", "").strip().splitlines()
                self.display.say(
                    f"  {record.outcome}: {record.cell['title']} {record.trial['id']}: {why[0] if why else ''}"
                )
        unmeasured = {cell.id: cell for cell in self.jobs if not path_of(cell, None).exists()}
        for cell in unmeasured.values():
            self.display.say(f"  no cost: {cell.title}")
        return set(outcomes) <= {"ok"} and not unmeasured


def _axes(cell: Cell) -> str:
    used = " and ".join(cell.config["method"]["uses"]) or "neither rank nor target"
    return f"{used}, up to the model's blocks" if cell.config["method"]["rank_limit"] == "layers" else used
