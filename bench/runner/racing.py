"""Train the candidates of a race. Those that advance to the next stage resume where they stopped."""

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
    """Runs the race of a cell for its learning rate. The race never reads the report part.

    Args:
        trials: Trains the candidates.

    Attributes:
        runs: Runs that may advance: all of a stage if they are packed, or the best ones if each has its own model.
    """

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.runs: list[Run] = []

    def hold(self, race: Race) -> Race:
        """Train what is missing of a race. Its state is emitted before every stage and at the end.

        Args:
            race: The race, new or interrupted.

        Returns:
            The finished race.
        """
        while (stage := race.stage) is not None:
            self.trials.emit(Raced(race.as_dict()))
            race = race.after(stage, self._results(race, stage))
        self.runs.clear()
        self.trials.emit(Raced(race.as_dict()))
        return race

    def _results(self, race: Race, stage: Stage) -> Mapping[float, Candidate]:
        """Train a stage, and return its candidates with their new losses or outcomes, by learning rate."""
        cell, before = self.trials.cell, {candidate.lr: candidate for candidate in race.candidates}
        trials = {trial.id: trial for trial in (Trial(cell.id, lr, race.rule.seed) for lr in stage.rates)}
        until = max(1, round(self.trials.training.steps * stage.part))
        after: dict[float, Candidate] = {}
        for result in self._train(list(trials.values()), until, race.rule.finalists):
            lr = float(trials[result.trial].lr or 0)
            if isinstance(result, Judged):
                # A candidate that started again is not evaluated again at earlier stages, so keep those losses.
                losses = dict(before[lr].select_losses) | dict(result.select_losses)
                after[lr] = replace(before[lr], select_losses=tuple(sorted(losses.items())))
            else:
                after[lr] = replace(before[lr], outcome=result.outcome, error=result.error)
        return after

    def _train(self, trials: Sequence[Trial], until: int, keep: int) -> Iterator[Judged | Ended]:
        """Train candidates up to an update.

        Args:
            trials: One trial per candidate.
            until: Number of the update at which the stage ends.
            keep: How many candidates may advance.

        Yields:
            The result of each trial, after emitting it.
        """
        left = {trial.id: trial for trial in trials}
        for run in list(self.runs):
            run.pack.drop([member for member in run.pack.members if member.wanted.trial not in left])
            for result in self._resume(run, until):
                left.pop(result.trial)
                self.trials.emit(result)
                yield result
        self.runs = [run for run in self.runs if run.pack.members]
        yield from self.trials.each(list(left.values()), partial(self._begin, until, keep), self._free)

    def _begin(self, until: int, keep: int, group: Sequence[Trial]) -> Iterator[Judged | Ended]:
        """Train a group from its start, and keep its run for the next stage."""
        trials = self.trials
        run = Run(trials.ready(group), trials.emit)
        yield from _advance(run, until)
        self.runs.append(run)
        self._keep_best(keep)

    def _resume(self, run: Run, until: int) -> list[Judged | Ended]:
        """Resume a run. If it fails, return no results; its candidates then start again."""
        try:
            return list(_advance(run, until))
        except Exception as error:  # noqa: BLE001 - a lasting error shows again when they start again
            release(error)
            self.runs.remove(run)
            return []

    def _keep_best(self, keep: int) -> None:
        """Drop the runs whose candidates cannot become finalists, to free their models."""
        candidates = (_candidate(member) for run in self.runs for member in run.pack.members)
        ranked = sorted(candidates, key=lambda candidate: candidate.rank)
        best = {candidate.lr for candidate in ranked[:keep]}
        self.runs = [run for run in self.runs if any(member.wanted.lr in best for member in run.pack.members)]

    def _free(self) -> bool:
        """Drop all kept runs after memory ran out; return whether there were any."""
        held, self.runs = self.runs, []
        return bool(held)


def _advance(run: Run, until: int) -> Iterator[Judged | Ended]:
    """Train a run up to an update. Yields the trials that failed on the way, then the select losses of the others."""
    for member, end in run.advance(until):
        if isinstance(end, Exception):
            yield ended_with(member.wanted.trial, end)
    for member in run.pack.members:
        yield Judged(member.wanted.trial, member.finite_losses)


def _candidate(member: Member) -> Candidate:
    """Return a member of a pack as a candidate with its losses so far."""
    return Candidate(member.wanted.lr, select_losses=member.finite_losses)
