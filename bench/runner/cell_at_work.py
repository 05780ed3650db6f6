"""Follow one running cell: pass its worker's events to the records, to W&B and to the screen."""

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

    Args:
        recorder: Writes the cell's records.
        tracker: Writes its runs to W&B.
        shown: Shows the cell on the screen.
        trials: Trials to train.
        again: Trials that already have a result.
        raced: Called at the end of a race. Returns the trials to train at the winner's rate.

    Attributes:
        left: Trials of the report that have not ended, by id.
        known: Every trial that the worker may mention, by id.
        race: The race as last reported; None if there is none.
        racing: Candidates of the race, by the id of their trial.
        ended: How trials of the report ended, without curves and predictions.
        broken: Why the cell could not continue: type and message; None if it could.
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
        self.recorder, self.tracker, self.shown, self.again, self.raced = recorder, tracker, shown, again, raced
        self.cell: Cell = recorder.cell
        self.left = {trial.id: trial for trial in trials}
        self.known = dict(self.left)
        self.race: Race | None = None
        self.racing: dict[str, Candidate] = {}
        self.ended: dict[Trial, Record] = {}
        self.broken: dict[str, str] | None = None

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
        """Handle the start of a stage or the end of the race."""
        self.race = race
        self.recorder.write_race(race)
        for candidate in race.candidates:
            trial = Trial(self.cell.id, candidate.lr, race.rule.seed)
            self.known[trial.id], self.racing[trial.id] = trial, candidate
        self._close_race()
        if race.stage is None:
            self.left |= {trial.id: trial for trial in self.raced(race)}
            self.known |= self.left

    def _close_race(self, outcome: str | None = None) -> None:
        """Close the tracked runs of the candidates that are out of the race, or of all if an outcome is given.

        The outcome is that of the candidates that were still waiting.
        """
        for name, candidate in self.racing.items():
            trial = self.known[name]
            if trial in self.recorder.running and (outcome or candidate.outcome != WAITING):
                del self.recorder.running[trial]
                final = replace(candidate, outcome=outcome) if outcome and candidate.outcome == WAITING else candidate
                self.tracker.finish(self.recorder.candidate(trial, final), self.recorder.cost)

    def _break(self, broken: Broken) -> None:
        """End all remaining trials with the error that broke the cell."""
        self.broken = broken.error
        if self.race is not None and self.race.stage is not None:
            self._close_race(outcome=broken.outcome)
        if not self.left:
            consequence = "no learning rate was found" if self.race is not None else "no cost was measured"
            self.shown.say(f"{consequence}: {first_line(broken.error)}")
        for trial in list(self.left.values()):
            ended = Ended(trial.id, broken.outcome, error=broken.error)
            self._end(self.left.pop(trial.id), ended)
            self.shown.tell(ended, trial.name)

    def _end(self, trial: Trial, ended: Ended) -> None:
        """Record and track the end of a trial of the report."""
        record, written = self.recorder.write_trial(trial, ended)
        self.ended[trial] = replace(record, curve=None, predictions=None)
        if trial in self.again and written and record.curve:
            self.tracker.start(self.cell, trial, REPORT)  # not earlier: opening a run replaces the previous one
            self.tracker.log(trial.id, record.curve)
        self.tracker.finish(record, self.recorder.cost)
