"""One cell at work: what its worker tells goes to the records, to W&B and to the screen."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.cells.cell import Cell, Trial
from bench.cells.race import WAITING, Candidate, Race
from bench.events import Broken, Ended, Event, Judged, Probed, Raced, Ready, Started, Stepped
from bench.records.record import first_line
from bench.runner.progress import CellDisplay
from bench.runner.recorder import Recorder
from bench.runner.wandb_runs import RACE, REPORT, Tracker

if TYPE_CHECKING:
    from bench.records.record import Record


class AtWork:
    """Follows the events of one cell.

    Attributes:
        left: The trials of the report that have not ended, by id.
        ended: How trials of the report ended, without curves and predictions.
        broken: Why nothing more could be run of the cell: type and message.
    """

    def __init__(
        self,
        recorder: Recorder,
        tracker: Tracker,
        shown: CellDisplay,
        trials: Sequence[Trial],
        again: Collection[Trial],
        raced: Callable[[Race], Sequence[Trial]],
    ) -> None:
        """trials: to be trained. again: those that have a result already. raced: called at the end of a race; gives the
        trials to be trained at the winner's rate.
        """
        self.recorder, self.tracker, self.shown, self.again, self.raced = recorder, tracker, shown, again, raced
        self.cell: Cell = recorder.cell
        self.left = {trial.id: trial for trial in trials}
        self.known = dict(self.left)  # every trial that the worker may tell of, by id
        self.race: Race | None = None
        self.racing: dict[str, Candidate] = {}  # candidates of the race, by the ids of their trials
        self.ended: dict[Trial, Record] = {}
        self.broken: dict[str, str] | None = None  # why nothing more could be run

    def follow(self, event: Event) -> None:
        """Record, track and show an event."""
        match event:
            case Ready(device=device):
                self.recorder.device = device
            case Probed():
                self.recorder.write_probe(event)
            case Raced(race=race):
                self._follow_race(Race.read(race))
            case Started(trial=name):
                trial = self.known[name]
                if trial not in self.recorder.running and trial not in self.again:
                    self.tracker.start(self.cell, trial, RACE if name in self.racing else REPORT)
                self.recorder.begin(trial)
            case Stepped(trial=name, curve=curve):
                self.recorder.extend(self.known[name], curve)
                self.tracker.log(name, curve)
            case Ended(trial=name) if name in self.left:
                self._end(self.left.pop(name), event)
            case Broken():
                self._break(event)
            case _:
                pass
        name = self.known[event.trial].name if isinstance(event, (Started, Stepped, Judged, Ended)) else ""
        self.shown.tell(event, name)

    def interrupt(self) -> None:
        """Record the trials that are running as interrupted."""
        for trial in list(self.recorder.running):
            if trial.id in self.left:
                self._end(self.left.pop(trial.id), Ended(trial.id, "interrupted"))
        self._close_race(outcome="interrupted")

    def _follow_race(self, race: Race) -> None:
        """A stage of the race begins, or the race is over."""
        self.race = race
        self.recorder.write_race(race)
        for one in race.candidates:
            trial = Trial(self.cell.id, one.lr, race.rule.seed)
            self.known[trial.id], self.racing[trial.id] = trial, one
        self._close_race()
        if race.stage is None:
            self.left |= {trial.id: trial for trial in self.raced(race)}
            self.known |= self.left

    def _close_race(self, outcome: str | None = None) -> None:
        """Close the runs of the candidates whose race is over, or of all with an outcome."""
        for name, one in self.racing.items():
            trial = self.known[name]
            if trial in self.recorder.running and (outcome or one.outcome != WAITING):
                del self.recorder.running[trial]
                told = replace(one, outcome=outcome) if outcome and one.outcome == WAITING else one
                self.tracker.finish(self.recorder.candidate(trial, told), self.recorder.cost)

    def _break(self, broken: Broken) -> None:
        """Nothing more can be run of a cell: its trials end as it did."""
        self.broken = broken.error
        if self.race is not None and self.race.stage is not None:
            self._close_race(outcome=broken.outcome)
        if not self.left:
            what = "its learning rate is not found" if self.race is not None else "no cost was measured"
            self.shown.say(f"{what}: {first_line(broken.error)}")
        for trial in list(self.left.values()):
            ended = Ended(trial.id, broken.outcome, error=broken.error)
            self._end(self.left.pop(trial.id), ended)
            self.shown.tell(ended, trial.name)

    def _end(self, trial: Trial, ended: Ended) -> None:
        record, written = self.recorder.write_trial(trial, ended)
        self.ended[trial] = replace(record, curve=None, predictions=None)
        if trial in self.again and written and record.curve:
            self.tracker.start(self.cell, trial, REPORT)  # only now: opening a run replaces that of the result before
            self.tracker.log(trial.id, record.curve)
        self.tracker.finish(record, self.recorder.cost)
