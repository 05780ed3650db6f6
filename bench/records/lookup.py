"""What is recorded of a cell already, whatever its folder is called: its files, and what is still missing."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race
from bench.config.enums import Save, Tune
from bench.records import record as records
from bench.records.record import Record
from bench.records.replace import put
from bench.tasks.loaders.texts import hash_of, read_texts

LOCK = ".race.lock"  # in the cell's folder, held while its race is
TRIED_AGAIN = ("oom", "failed")  # ends of a race without a winner
PROBE, RACE = "probe", "race"
OF_LATENCY = ("latency", "merge_difference")  # of a cost, measured under merge=true


@dataclass(frozen=True)
class Extras:
    """What a final record must hold besides its scores, as the configuration asks.

    save: what is to be kept of the trained model, adapter or merged. texts: the hash of the texts whose retention is to
    be measured. None: it is not asked for. Neither is part of a cell's identity.
    """

    save: str | None
    texts: str | None

    @classmethod
    def of(cls, cell: Cell) -> "Extras":
        """ValueError: there are no texts where the configuration says."""
        save, retain = cell.conf.save, cell.conf.retain
        texts = hash_of(read_texts(Path(retain).expanduser())) if retain is not None and cell.trains else None
        return cls(None if save is Save.none else save.value, texts)

    def lacking(self, record: Record) -> str:
        """What a record lacks of it, as the setting that asks for it; empty where nothing is lacking."""
        if record.outcome != "ok":
            return ""
        retention = (record.scores or {}).get("retention") or {}
        lacking = []
        if self.save is not None and not (_is_saved(record) and Path(str(record.saved)).name == self.save):
            lacking.append(f"save={self.save}")
        if self.texts is not None and retention.get("texts") != self.texts:
            lacking.append("retain=")
        return " and ".join(lacking)


class Lookup:
    """The records of one command's cells, found by the cell's id.

    The same model under two folder names is one cell with one id, whichever name its results were recorded under. The
    results folders are listed once, so that thousands of cells cost one walk.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._listed: dict[Path, dict[str, list[Path]]] = {}
        self._extras: dict[tuple[Save, str | None, bool], Extras] = {}

    def extras(self, cell: Cell) -> Extras:
        """What is asked for beside the scores: found out once, so that no file that goes away costs a result."""
        key = (cell.conf.save, cell.conf.retain, cell.trains)
        if key not in self._extras:
            self._extras[key] = Extras.of(cell)
        return self._extras[key]

    def path_of(self, cell: Cell, what: Trial | str) -> Path:
        """The file of a trial's record, of the cell's `probe` or of its `race`; of several, of the one that counts."""
        name = what if isinstance(what, str) else what.name
        places = [folder / f"{name}.json" for folder in self._folders(cell)]
        there = [place for place in places if place.exists()]
        return max(there, key=_rank) if len(there) > 1 else (there or places)[0]

    def read(self, cell: Cell, what: Trial | str) -> Record | None:
        """The record that counts. UnreadableError: there is one, of another version, or closed to us."""
        path = self.path_of(cell, what)
        try:
            return records.read(path) if path.exists() else None
        except records.UnreadableError:
            raise
        except records.RecordError as error:
            self.say(str(error))
            return None

    def cost_of(self, cell: Cell) -> dict[str, Any] | None:
        """What the probe of a cell measured; None where something that is asked for was not."""
        probed = self.read(cell, PROBE)
        return probed.cost if probed and _has_cost(cell, probed) else None

    def wants_probe(self, cell: Cell) -> bool:
        """Whether the cost is to be measured: it is not recorded as a whole, or something disturbed its measurement."""
        cost = self.cost_of(cell)
        return cost is None or bool(cost.get("contended"))

    def race_of(self, cell: Cell) -> Race | None:
        """The race that found the cell's rate, at its end; None: there is none, or not one by its rule.

        One that another cell has held counts only where the configuration asks for that.
        """
        there = self.begun_race(cell)
        return there if there is not None and there.lr is not None else None

    def begun_race(self, cell: Cell) -> Race | None:
        """A race for the cell's rate that the present rule agrees with, wherever it stands."""
        record = self.read(cell, RACE)
        if record is None or record.race is None or cell.rule is None:
            return None
        try:
            race = Race.read(record.race)
        except ValueError as error:
            self.say(f"{self.path_of(cell, RACE)}: {error}; it is held again")
            return None
        if race.outcome in TRIED_AGAIN:
            return None
        if race.of is not None and cell.conf.tune is not Tune.once:
            return None
        agrees = race.rule == cell.rule or (race.lr is not None and race.rule.covers(cell.rule))
        return race if agrees and race.published == cell.conf.method.lr else None

    def names_recorded(self, cell: Cell) -> frozenset[str]:
        """Names of the cell's trials that need no training, at whatever rate."""
        if cell.conf.force:
            return frozenset()
        extras, found = self.extras(cell), set[str]()
        for path in {path for folder in self._folders(cell) for path in folder.glob("*-seed*.json")}:
            record = records.read_if_there(path, self.say)
            if record is not None and record.is_final and not extras.lacking(record):
                found.add(path.stem)
        return frozenset(found)

    @contextmanager
    def hold_race(self, cell: Cell) -> Iterator[bool]:
        """Keep other processes from holding the cell's race meanwhile. Gives whether none of them is at it."""
        path = self._folders(cell)[0] / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True  # closing the file lets go

    def put_race(self, cell: Cell, record: Record) -> None:
        """Record the state of a race; one that has ended goes only for another that has."""

        def settle(_: Record, new: Record) -> Record | None:
            return new if cell.conf.force or self.race_of(cell) is None else None

        put(self.path_of(cell, RACE), record, settle)

    def put_trial(self, cell: Cell, trial: Trial, record: Record) -> Record | None:
        """Record a trial. Returns the final record that was kept instead, or None."""
        extras = self.extras(cell)

        def settle(there: Record, new: Record) -> Record | None:
            if cell.conf.force:
                return new
            wanted = extras.lacking(there) and not extras.lacking(new)
            return _combined(there, new) if wanted and new.outcome == "ok" else None

        return put(self.path_of(cell, trial), record, settle)

    def put_probe(self, cell: Cell, record: Record, *, replaces: bool = False) -> Record | None:
        """Record a cost. Returns the record that was kept instead, or None.

        replaces: whether it goes in the place of any that is recorded; where the latency was not measured again, the
        recorded one stays.
        """

        def settle(there: Record, new: Record) -> Record | None:
            if cell.conf.force:
                return new
            return _with_latency(there, new) if replaces or _is_better_cost(cell, there, new) else None

        return put(self.path_of(cell, PROBE), record, settle)

    def _folders(self, cell: Cell) -> list[Path]:
        """The cell's folders, its own first; at least the one that it would get."""
        results = Path(cell.conf.results_dir).expanduser()
        if results not in self._listed:
            self._listed[results] = records.folders_by_id(results)
        own = results / cell.folder
        folders = self._listed[results].setdefault(cell.id, [own])  # the cell stays there under any other name, too
        return sorted(folders, key=lambda folder: folder != own)


def _rank(path: Path) -> tuple[bool, str]:
    """Of two records of one trial, a final one counts; of two such, the newer. Old records do not tell when."""
    try:
        record = records.read(path)
    except records.RecordError:
        return False, ""
    return record.is_final, str(record.provenance.get("written") or "")


def _combined(there: Record, new: Record) -> Record | None:
    """The new record, with what only the old one holds: both are of the same model if they predict the same.

    None: they do not, and what only the old one holds would be lost.
    """
    scores, old = new.scores or {}, there.scores or {}
    retention = {"retention": old["retention"]} if "retention" in old and "retention" not in scores else {}
    saved = there.saved if new.saved is None and _is_saved(there) else new.saved
    if (retention or saved != new.saved) and there.predictions != new.predictions:
        return None
    return replace(new, scores=scores | retention, saved=saved)


def _is_saved(record: Record) -> bool:
    return record.saved is not None and Path(record.saved).is_dir()


def _has_cost(cell: Cell, probed: Record) -> bool:
    return probed.cost is not None and ("latency" in probed.cost or not cell.conf.merge)


def _is_better_cost(cell: Cell, there: Record, new: Record) -> bool:
    """Whether a new measurement of the cost holds what is lacking, or was disturbed no more where the old one was."""
    if not _has_cost(cell, new):
        return False
    calmed = (there.cost or {}).get("contended") and not (new.cost or {}).get("contended")
    return bool(calmed) or not _has_cost(cell, there)


def _with_latency(there: Record, new: Record) -> Record:
    """The new cost, with the latencies of the old one where they were not measured again."""
    kept = {name: value for name, value in (there.cost or {}).items() if name in OF_LATENCY}
    return replace(new, cost={**kept, **(new.cost or {})})
