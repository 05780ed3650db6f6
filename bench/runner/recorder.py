"""Turn a cell's events into records."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from bench.cells.cell import Cell, Trial
from bench.cells.race import DROPPED, FINISHED, Candidate, Race
from bench.events import Ended, Probed
from bench.records.lookup import Lookup
from bench.records.provenance import now, provenance
from bench.records.record import Record


@dataclass
class Recorder:
    """Collects a cell's events into records and writes them. Tells the user when an older result is kept instead.

    Attributes:
        cell: The cell.
        lookup: Where its records are read and written.
        say: Shows a line to the user.
        cost: The cell's cost; None until it is known.
        device: What the worker said about the machine; it goes into the provenance.
        running: The curve so far of every running trial.
    """

    cell: Cell
    lookup: Lookup
    say: Callable[[str], None]
    cost: dict[str, Any] | None
    device: dict[str, Any] = field(default_factory=dict)
    running: dict[Trial, dict[str, list[float]]] = field(default_factory=dict)

    def begin(self, trial: Trial) -> None:
        """Start an empty curve: the trial begins, or begins again in a smaller pack."""
        self.running[trial] = {}

    def extend(self, trial: Trial, piece: dict[str, list[float]]) -> None:
        """Append to a trial's curve. `piece` has lists of equal length, by the name of the quantity."""
        for key, values in piece.items():
            self.running[trial].setdefault(key, []).extend(values)

    def write_probe(self, probed: Probed, *, replaces: bool = False) -> None:
        """Record a cost.

        Args:
            probed: The measured cost.
            replaces: Whether to replace any recorded cost.
        """
        blank = self._blank("probe", None, "ok", probed.error)
        record = replace(blank, cost=probed.cost, truth=probed.truth)
        kept = self.lookup.put_probe(self.cell, record, replaces=replaces)
        self.cost = (kept or record).cost
        if kept:
            disturbed = (probed.cost.get("contended") and "this measurement was disturbed") or None
            reason = disturbed or "this measurement adds nothing to it"
            self.say(f"kept the recorded cost of {self.cell.title}; {reason}")

    def write_race(self, race: Race) -> None:
        """Record the current state of a race."""
        self.lookup.put_race(
            self.cell, replace(self._blank("race", None, race.outcome, race.error), race=race.as_dict())
        )

    def candidate(self, trial: Trial, candidate: Candidate) -> Record:
        """Return a record of one learning rate of a race, for the tracker.

        It is never written to disk, because the record of the race contains it.

        Args:
            trial: The trial that trained the candidate.
            candidate: The rate with its outcome and losses.

        Returns:
            A record of kind `trial` whose scores are `select_loss` and `race`.
        """
        outcome = "ok" if candidate.outcome in {DROPPED, FINISHED} else candidate.outcome
        scores = {"select_loss": candidate.lowest, "race": candidate.outcome}
        return replace(self._blank("trial", trial, outcome, candidate.error), scores=scores)

    def write_trial(self, trial: Trial, ended: Ended) -> tuple[Record, bool]:
        """Record the end of a trial.

        Args:
            trial: The trial.
            ended: How it ended.

        Returns:
            The trial's record, and whether it was written. It is not written if the stored result is kept.
        """
        record = replace(
            self._blank("trial", trial, ended.outcome, ended.error),
            scores=ended.scores,
            predictions=ended.predictions,
            cost=ended.cost,
            curve=self.running.pop(trial, None) or None,
            saved=ended.saved,
        )
        kept = self.lookup.put_trial(self.cell, trial, record)
        if kept:
            self.say(
                f"kept the recorded {kept.outcome} of {self.cell.title} {trial.name}; "
                f"this run ended {record.outcome}{self._why_kept(kept, record)}"
            )
        return record, kept is None

    def _why_kept(self, kept: Record, record: Record) -> str:
        """Say why a run that ended ok was not recorded; empty for other outcomes."""
        extras = self.lookup.extras(self.cell)
        if record.outcome != "ok" or not (lacking := extras.lacking(kept)):
            return ""
        if extras.lacking(record):
            return f" without {lacking}"
        return ", with other predictions; force=true replaces it"

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
                "scale": cell.scale,
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
            provenance={**provenance(), **self.device, "written": now()},
        )
