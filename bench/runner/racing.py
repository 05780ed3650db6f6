"""A race's candidates in training: those that go on, go on from where they stood."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bench.cells.cell import Trial
from bench.cells.race import Candidate, Race, Stage
from bench.events import Ended, Judged, Raced
from bench.runner.packing import Trials, ended_with
from bench.train.loop import Run
from bench.train.outcome import release
from bench.train.trial_state import Member


class Racing:
    """Holds the race of a cell for its learning rate. Nothing of it touches the report part."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.runs: list[Run] = []  # what may go on: all of a stage, or the best ones where each has a model of its own

    def hold(self, race: Race) -> Race:
        """Train what is missing of a race, telling its state before every stage and at the end; gives it at its end."""
        while (stage := race.stage) is not None:
            self.trials.emit(Raced(race.told()))
            race = race.after(stage, self._results(race, stage))
        self.runs.clear()
        self.trials.emit(Raced(race.told()))
        return race

    def _results(self, race: Race, stage: Stage) -> Mapping[float, Candidate]:
        """What a stage has made of its candidates, by rate."""
        cell, before = self.trials.cell, {one.lr: one for one in race.candidates}
        asked = {trial.id: trial for trial in (Trial(cell.id, lr, race.rule.seed) for lr in stage.rates)}
        until = max(1, round(self.trials.training.steps * stage.part))
        found: dict[float, Candidate] = {}
        for told in self._train(list(asked.values()), until, race.rule.finalists):
            lr = float(asked[told.trial].lr or 0)
            if isinstance(told, Judged):
                # One that began again was not judged again where it had been.
                losses = dict(before[lr].select_losses) | dict(told.select_losses)
                found[lr] = replace(before[lr], select_losses=tuple(sorted(losses.items())))
            else:
                found[lr] = replace(before[lr], outcome=told.outcome, error=told.error)
        return found

    def _train(self, trials: Sequence[Trial], until: int, keep: int) -> Iterator[Judged | Ended]:
        """Train candidates up to an update. keep: how many may go on."""
        left = {trial.id: trial for trial in trials}
        for run in list(self.runs):
            run.pack.drop([member for member in run.pack.members if member.wanted.trial not in left])
            for told in self._go_on(run, until):
                left.pop(told.trial)
                self.trials.emit(told)
                yield told
        self.runs = [run for run in self.runs if run.pack.members]
        yield from self.trials.each(list(left.values()), partial(self._begin, until, keep), self._free)

    def _begin(self, until: int, keep: int, group: Sequence[Trial]) -> Iterator[Judged | Ended]:
        """Train a group from its start; keep it for the next stage."""
        trials = self.trials
        run = Run(trials.ready(group), trials.emit)
        yield from _advance(run, until)
        self.runs.append(run)
        self._keep_best(keep)

    def _go_on(self, run: Run, until: int) -> list[Judged | Ended]:
        """Train a run further. What stops it stops no candidate: nothing is told, and they begin again."""
        try:
            return list(_advance(run, until))
        except Exception as error:  # noqa: BLE001 - whatever it is, it shows again where they begin again
            release(error)
            self.runs.remove(run)
            return []

    def _keep_best(self, keep: int) -> None:
        """Let go of the models of candidates that cannot be finalists."""
        ranked = sorted(
            (_candidate(member) for run in self.runs for member in run.pack.members), key=lambda one: one.rank
        )
        best = {one.lr for one in ranked[:keep]}
        self.runs = [run for run in self.runs if any(member.wanted.lr in best for member in run.pack.members)]

    def _free(self) -> bool:
        """Give up what is kept, where memory ran out beside it; whether there was anything."""
        held, self.runs = self.runs, []
        return bool(held)


def _advance(run: Run, until: int) -> Iterator[Judged | Ended]:
    """Train a run up to an update; gives those that ended on the way, and what the others lose on select."""
    for member, end in run.advance(until):
        if isinstance(end, Exception):
            yield ended_with(member.wanted.trial, end)
    for member in run.pack.members:
        yield Judged(member.wanted.trial, member.finite_losses)


def _candidate(member: Member) -> Candidate:
    return Candidate(member.wanted.lr, select_losses=member.finite_losses)
