"""Find a cell's records by its id, whatever its folder is called, and decide what is still missing."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cells.cell import Cell, Trial
from bench.cells.race import Race
from bench.config.enums import Save, Tune
from bench.records import record as records
from bench.records.merging import Extras, combined, has_cost, is_better_cost, with_latency
from bench.records.record import Record
from bench.records.replace import put

LOCK = ".race.lock"  # in the cell's folder, locked while its race runs
TRIED_AGAIN = ("oom", "failed")  # a race with one of these outcomes has no winner and runs again
PROBE, RACE = "probe", "race"


class Lookup:
    """Reads and writes the records of one command's cells, found by cell id.

    The same model under two folder names is one cell with one id. Its records are found under either name. Each results
    folder is listed only once, so that thousands of cells cost one directory walk.

    Args:
        say: Shows a line to the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._listed: dict[Path, dict[str, list[Path]]] = {}
        self._extras: dict[tuple[Save, str | None, bool], Extras] = {}

    def extras(self, cell: Cell) -> Extras:
        """Return what is required besides the scores.

        The result is cached. A text file that disappears during the command therefore costs no result.

        Raises:
            ValueError: The texts of `retain` cannot be read.
        """
        key = (cell.conf.save, cell.conf.retain, cell.trains)
        if key not in self._extras:
            self._extras[key] = Extras.of(cell)
        return self._extras[key]

    def path_of(self, cell: Cell, what: Trial | str) -> Path:
        """Return the path of a record.

        Args:
            cell: The cell.
            what: A trial, or `PROBE` or `RACE`.

        Returns:
            The existing file. If several folders have one, a final record comes before others, then the newest. If
            none has one, the path where the record belongs.
        """
        name = what if isinstance(what, str) else what.name
        paths = [folder / f"{name}.json" for folder in self._folders(cell)]
        existing = [path for path in paths if path.exists()]
        return max(existing, key=_rank) if len(existing) > 1 else (existing or paths)[0]

    def read(self, cell: Cell, what: Trial | str) -> Record | None:
        """Read a record, from the file that `path_of` chooses.

        Args:
            cell: The cell.
            what: A trial, or `PROBE` or `RACE`.

        Returns:
            The record; None if there is none, or if the file is not a record, which is reported.

        Raises:
            UnreadableError: The file has another schema version, or it cannot be opened.
        """
        path = self.path_of(cell, what)
        try:
            return records.read(path)
        except records.MissingError:
            return None
        except records.UnreadableError:
            raise
        except records.RecordError as error:
            self.say(str(error))
            return None

    def cost_of(self, cell: Cell) -> dict[str, Any] | None:
        """Return the recorded cost of a cell, or None if it is missing or lacks a required part."""
        probed = self.read(cell, PROBE)
        return probed.cost if probed and has_cost(cell, probed) else None

    def wants_probe(self, cell: Cell) -> bool:
        """Return whether to measure the cost: it is not fully recorded, or its measurement was disturbed."""
        cost = self.cost_of(cell)
        return cost is None or bool(cost.get("contended"))

    def race_of(self, cell: Cell) -> Race | None:
        """Return the finished race that found the cell's learning rate.

        A race of another cell counts only under `tune=once`.

        Returns:
            The race, or None if there is none or it followed another rule.
        """
        race = self.begun_race(cell)
        return race if race is not None and race.lr is not None else None

    def begun_race(self, cell: Cell) -> Race | None:
        """Return the recorded race of a cell, finished or not, or None if none agrees with the current rule."""
        record = self.read(cell, RACE)
        if record is None or record.race is None or cell.rule is None:
            return None
        try:
            race = Race.read(record.race)
        except ValueError as error:
            self.say(f"{self.path_of(cell, RACE)}: {error}; the race runs again")
            return None
        if race.outcome in TRIED_AGAIN:
            return None
        if race.of is not None and cell.conf.tune is not Tune.once:
            return None
        agrees = race.rule == cell.rule or (race.lr is not None and race.rule.covers(cell.rule))
        return race if agrees and race.published == cell.conf.method.lr else None

    def names_recorded(self, cell: Cell) -> frozenset[str]:
        """Return the names of the cell's trials that need no training, at any learning rate."""
        if cell.conf.force:
            return frozenset()
        extras, names = self.extras(cell), set[str]()
        for path in {path for folder in self._folders(cell) for path in folder.glob("*-seed*.json")}:
            record = records.read_if_there(path, self.say)
            if record is not None and record.is_final and not extras.lacking(record):
                names.add(path.stem)
        return frozenset(names)

    @contextmanager
    def hold_race(self, cell: Cell) -> Iterator[bool]:
        """Lock the cell's race against other processes.

        Yields:
            True if this process holds the lock, False if another one does.
        """
        path = self._folders(cell)[0] / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True  # closing the file releases the lock

    def put_race(self, cell: Cell, record: Record) -> None:
        """Record the state of a race. Only a finished race replaces a finished one.

        Raises:
            UnreadableError: The stored file may be a result but cannot be read.
        """

        def settle(_: Record, new: Record) -> Record | None:
            return new if cell.conf.force or self.race_of(cell) is None else None

        put(self.path_of(cell, RACE), record, settle)

    def put_trial(self, cell: Cell, trial: Trial, record: Record) -> Record | None:
        """Record a trial.

        Args:
            cell: The cell of the trial.
            trial: The trial.
            record: Its new record.

        Returns:
            The final record that was kept instead, or None if the new one was written.

        Raises:
            UnreadableError: The stored file may be a result but cannot be read.
        """
        extras = self.extras(cell)

        def settle(stored: Record, new: Record) -> Record | None:
            if cell.conf.force:
                return new
            completes = extras.lacking(stored) and not extras.lacking(new)
            return combined(stored, new) if completes and new.outcome == "ok" else None

        return put(self.path_of(cell, trial), record, settle)

    def put_probe(self, cell: Cell, record: Record, *, replaces: bool = False) -> Record | None:
        """Record a cost.

        Args:
            cell: The cell.
            record: The new record.
            replaces: Whether to replace any recorded cost. A latency that was not measured again is carried over.

        Returns:
            The final record that was kept instead, or None if the new one was written.

        Raises:
            UnreadableError: The stored file may be a result but cannot be read.
        """

        def settle(stored: Record, new: Record) -> Record | None:
            if cell.conf.force:
                return new
            return with_latency(stored, new) if replaces or is_better_cost(cell, stored, new) else None

        return put(self.path_of(cell, PROBE), record, settle)

    def _folders(self, cell: Cell) -> list[Path]:
        """Return the cell's folders, with the one named by its configuration first, even if it does not exist yet."""
        results = Path(cell.conf.results_dir).expanduser()
        if results not in self._listed:
            self._listed[results] = records.folders_by_id(results)
        own = results / cell.folder
        folders = self._listed[results].setdefault(cell.id, [own])  # later names of the cell find this folder too
        return sorted(folders, key=lambda folder: folder != own)


def _rank(path: Path) -> tuple[bool, str]:
    """Return a sort key for records of one trial: final ones last, then by time. Old records have no time."""
    try:
        record = records.read(path)
    except records.RecordError:
        return False, ""
    return record.is_final, str(record.provenance.get("written") or "")
