"""A cell's events become records."""

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
    """Gathers a cell's events into records and writes them; says where an older result was kept instead."""

    cell: Cell
    lookup: Lookup
    say: Callable[[str], None]
    cost: dict[str, Any] | None  # the cell's, once it is known
    device: dict[str, Any] = field(default_factory=dict)
    running: dict[Trial, dict[str, list[float]]] = field(default_factory=dict)  # with their curves so far

    def begin(self, trial: Trial) -> None:
        """A trial starts, or starts again with fewer beside it."""
        self.running[trial] = {}

    def extend(self, trial: Trial, piece: dict[str, list[float]]) -> None:
        for key, values in piece.items():
            self.running[trial].setdefault(key, []).extend(values)

    def write_probe(self, probed: Probed, *, replaces: bool = False) -> None:
        """Record a cost. replaces: whether it goes in the place of any that is recorded."""
        blank = self._blank("probe", None, "ok", probed.error)
        record = replace(blank, cost=probed.cost, truth=probed.truth)
        kept = self.lookup.put_probe(self.cell, record, replaces=replaces)
        self.cost = (kept or record).cost
        if kept:
            disturbed = (probed.cost.get("contended") and "this measurement was disturbed") or None
            why = disturbed or "this measurement adds nothing to it"
            self.say(f"kept the recorded cost of {self.cell.title}; {why}")

    def write_race(self, race: Race) -> None:
        """Record where a race stands."""
        self.lookup.put_race(self.cell, replace(self._blank("race", None, race.outcome, race.error), race=race.told()))

    def candidate(self, trial: Trial, candidate: Candidate) -> Record:
        """What there is to tell of a rate of a race. It is never written: the race's record has it."""
        outcome = "ok" if candidate.outcome in {DROPPED, FINISHED} else candidate.outcome
        scores = {"select_loss": candidate.lowest, "race": candidate.outcome}
        return replace(self._blank("trial", trial, outcome, candidate.error), scores=scores)

    def write_trial(self, trial: Trial, ended: Ended) -> tuple[Record, bool]:
        """The record of a trial, and whether it was written: a result that is recorded already may stay instead."""
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
        """Why a run that ended ok was not recorded."""
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
