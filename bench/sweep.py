"""One command's cells: skip what is recorded, run the rest, record every outcome."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import launch, records
from bench.cell import Cell, Trial
from bench.events import Broken, Ended, Event, Probed, Ready, Started, Stepped
from bench.progress import Display
from bench.provenance import provenance
from bench.records import Record
from bench.track import Tracker, make_tracker


def folder_of(cell: Cell) -> Path:
    """The folder of a cell's records."""
    return Path(cell.config["results_dir"]).expanduser() / cell.folder


def path_of(cell: Cell, trial: Trial | None) -> Path:
    """The file of a trial's record, or of the cell's probe."""
    return folder_of(cell) / f"{'probe' if trial is None else trial.name}.json"


def missing(cell: Cell, say: Any) -> tuple[Trial, ...]:
    """Trials that have no final record yet; all of them where the cell is forced."""
    if cell.config["force"]:
        return cell.trials
    found = {trial: records.read_if_there(path_of(cell, trial), say) for trial in cell.trials}
    return tuple(trial for trial, record in found.items() if record is None or not record.is_final)


@dataclass
class Recorder:
    """Gathers a cell's events into records and writes them."""

    cell: Cell
    device: dict[str, Any]
    curve: dict[str, list[float]]
    running: Trial | None = None

    @classmethod
    def of(cls, cell: Cell) -> "Recorder":
        return cls(cell, {}, {})

    def extend(self, piece: dict[str, list[float]]) -> None:
        for key, values in piece.items():
            self.curve.setdefault(key, []).extend(values)

    def write_probe(self, cost: dict[str, Any]) -> None:
        records.write(path_of(self.cell, None), replace(self._blank("probe", None, "ok", None), cost=cost))

    def write_trial(self, trial: Trial, ended: Ended) -> Record:
        record = replace(
            self._blank("trial", trial, ended.outcome, ended.error),
            scores=ended.scores, predictions=ended.predictions, cost=ended.cost, curve=self.curve or None,
        )
        records.write(path_of(self.cell, trial), record)
        self.curve, self.running = {}, None
        return record

    def _blank(self, kind: str, trial: Trial | None, outcome: str, error: dict[str, str] | None) -> Record:
        cell = self.cell
        return Record(
            kind=kind,
            cell={
                "id": cell.id, "title": cell.title, "model": cell.source.label, "task": cell.task,
                "method": cell.method, "rank": cell.rank, "target": cell.target, "random": cell.source.random,
            },
            trial=None if trial is None else {"id": trial.id, "lr": trial.lr, "seed": trial.seed},
            outcome=outcome, error=error, scores=None, predictions=None, curve=None, cost=None,
            identity=cell.identity, config=cell.config, provenance={**provenance(), **self.device},
        )


class Sweep:
    """The state of one command: what was planned, what is done. cells: in order, equal ones as often as named."""

    def __init__(self, cells: list[Cell], display: Display) -> None:
        self.display = display
        self.cells = list({cell.id: cell for cell in cells}.values())
        self.todo = {cell.id: missing(cell, display.say) for cell in self.cells}
        self.same = Counter(cell.id for cell in cells)
        self.done: set[str] = set()
        self.tracker: Tracker | None = None

    def announce(self) -> None:
        """Say what will be trained, what is recorded already, and which cells were named more than once."""
        waiting = [trials for trials in self.todo.values() if trials]
        trials, recorded = sum(map(len, waiting)), sum(len(cell.trials) for cell in self.cells)
        self.display.say(f"{len(self.cells)} cells, {recorded} trials: {recorded - trials} recorded, {trials} to train")
        for cell in self.cells:
            if (named := self.same[cell.id]) > 1:
                self.display.say(f"{cell.title}: {named} of the jobs are this same cell (it uses {_axes(cell)}); it runs once")

    def run(self, cell: Cell) -> None:
        """Run what is missing of a cell. KeyboardInterrupt: the trial that was running is recorded as interrupted."""
        trials = () if cell.id in self.done else self.todo.get(cell.id, ())
        self.done.add(cell.id)
        if not trials:
            return
        if self.tracker is None:
            self.tracker = make_tracker(cell.config["track"], self.display.say)
        self.display.begin_cell(cell.title, len(trials))
        recorder = Recorder.of(cell)
        probed = records.read_if_there(path_of(cell, None), self.display.say)
        cost = probed.cost if probed is not None and not cell.config["force"] else None
        events = launch.run(cell, trials, probe=cost is None)
        try:
            self._follow(events, recorder, trials, cost)
        except KeyboardInterrupt:
            if recorder.running is not None:
                recorder.write_trial(recorder.running, Ended(recorder.running.id, "interrupted"))
            raise
        finally:
            events.close()  # type: ignore[attr-defined]

    def _follow(
        self, events: Iterable[Event], recorder: Recorder, trials: tuple[Trial, ...], cost: dict[str, Any] | None
    ) -> None:
        assert self.tracker is not None
        by_id = {trial.id: trial for trial in trials}
        left = dict(by_id)
        for event in events:
            match event:
                case Ready(device=device):
                    recorder.device = device
                case Probed(cost=cost):
                    recorder.write_probe(cost)
                case Started(trial=name):
                    recorder.running = by_id[name]
                    self.tracker.start(recorder.cell, by_id[name])
                case Stepped(curve=curve):
                    recorder.extend(curve)
                    self.tracker.log(curve)
                case Ended(trial=name):
                    record = recorder.write_trial(left.pop(name), event)
                    self.tracker.finish(record, cost)
                case Broken(outcome=outcome, error=error):
                    for trial in left.values():
                        ended = Ended(trial.id, outcome, error=error)
                        self.tracker.finish(recorder.write_trial(trial, ended), cost)
                        self.display.tell(ended, trial.name)
            name = by_id[event.trial].name if isinstance(event, (Started, Stepped, Ended)) else ""
            self.display.tell(event, name)

    def summary(self) -> bool:
        """Print how the planned trials ended, as their records say; True where all are ok."""
        found = [records.read_if_there(path_of(cell, trial), self.display.say) for cell in self.cells for trial in cell.trials]
        outcomes = Counter("missing" if record is None else record.outcome for record in found)
        self.display.say(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
        for record in found:
            if record is not None and record.outcome != "ok" and record.trial is not None:
                why = (record.error or {}).get("message", "").strip().splitlines()
                self.display.say(f"  {record.outcome}: {record.cell['title']} {record.trial['id']}: {why[0] if why else ''}")
        return set(outcomes) <= {"ok"}


def _axes(cell: Cell) -> str:
    return " and ".join(cell.config["method"]["uses"]) or "neither rank nor target"
