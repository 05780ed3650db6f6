"""Parse the command line of the report and select the records it is about."""

import gc
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.records import record as records
from bench.records.manifest import Manifest, find_manifest
from bench.records.record import Record
from bench.report.studies import study_folder, study_names

RESULTS = "results"
FIRST = "-m method=lora,adapter,ia3 rank=1,4,8,64"  # a first grid, as in README
PLACES = ("results_dir", "study", "run")
FILTERS = ("model", "task", "method")
LONGEST = 100  # most characters that the filters may take in a file name
SETTINGS = {
    "tables": ("table", "metric", "format", "published"),
    "figures": ("figure", "format"),
    "compare": ("a", "b"),
    "recommend": ("memory_gb", "params", "latency_ms", "minutes"),
    "serve": ("port",),
    "wandb": ("project", "entity"),
}


@dataclass(frozen=True)
class Arguments:
    """A parsed command line.

    Attributes:
        command: The command, a key of SETTINGS.
        results: The folder of the records.
        wanted: The filters: for each filtered field, the names that pass.
        settings: The command's own settings, as text.
        study: The committed study whose records are read; None if the records are not those of a study.
        run: The run to whose cells and trials the report is limited; None for all records.
    """

    command: str
    results: Path
    wanted: Mapping[str, set[str]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    study: str | None = None
    run: Manifest | None = None

    @property
    def filtered(self) -> str:
        """The filters as one name for a file or folder; empty if every record passes."""
        filters = [f"{key}={','.join(sorted(names))}" for key, names in sorted(self.wanted.items())]
        filters += [f"run={self.run.id}"] if self.run else []
        name = re.sub(r"[^\w.,=+-]", "_", "+".join(filters))
        return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def number(self, name: str, unit: str) -> float | None:
        """Read a setting as a positive number.

        Args:
            name: The setting.
            unit: Its unit, for the error message.

        Returns:
            The number; None if the setting is absent.

        Raises:
            ValueError: The text is not a number above 0.
        """
        text = self.settings.get(name)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = 0.0
        if not number > 0:
            raise ValueError(f"{name}={text} must be a number above 0 ({unit})")
        return number


def parse(arguments: list[str]) -> Arguments:
    """Parse a command and its KEY=VALUE settings.

    Args:
        arguments: Words of the command line. Without a command, the settings are those of `tables`.

    Returns:
        The parsed command line.

    Raises:
        ValueError: A command, setting, study or run is unknown, or the folder of the records does not exist.
    """
    command, words = "tables", arguments
    if arguments and "=" not in arguments[0]:
        command, words = arguments[0], arguments[1:]
    if command not in SETTINGS:
        raise ValueError(
            f"unknown command {command!r}; choose from {', '.join(SETTINGS)}, or give only KEY=VALUE for tables"
        )
    places, wanted, settings = {}, {}, {}
    for word in words:
        key, equals, value = word.partition("=")
        if key in PLACES and value:
            places[key] = value
        elif key in FILTERS and value:
            wanted[key] = set(value.split(","))
        elif equals and value and key in SETTINGS[command]:
            settings[key] = value
        else:
            allowed = (*PLACES, *FILTERS, *SETTINGS[command])
            raise ValueError(f"unknown setting {word!r}; valid settings: {'=, '.join(allowed)}=")
    name = places.pop("run", None)
    results = _folder(**places)
    run = None if name is None else find_manifest(results, name)
    return Arguments(command, results, wanted, settings, places.get("study"), run)


def _folder(results_dir: str | None = None, study: str | None = None) -> Path:
    """Return the folder of the records. ValueError if it does not exist, or if two folders are named."""
    if study is not None:
        if results_dir is not None:
            raise ValueError(f"results_dir={results_dir} and study={study} name two folders; give one of them")
        return study_folder(study)
    results = Path(results_dir or RESULTS).expanduser()
    if not results.is_dir():
        raise ValueError(
            nothing_recorded(results)
            if results_dir is None
            else f"results_dir={results_dir} is not a folder; run 'python -m bench.run' first"
        )
    return results


def nothing_recorded(results: Path) -> str:
    """Return the message for a folder without records: what to run, or which study to look at."""
    shipped = study_names()
    other = f", or look at a study of this repository: study={' or study='.join(shipped)}" if shipped else ""
    return f"nothing is recorded in {results} yet: run 'python -m bench.run {FIRST}'{other}"


def of_run(manifest: Manifest, results: Path, complain: Callable[[str], None]) -> Iterator[Record]:
    """Yield the records that belong to a run.

    These are the trials that the run requested, the costs of its cells, and the races that chose its learning rates.

    Args:
        manifest: The run.
        results: The folder of the records.
        complain: Receives one line for each file that cannot be read.

    Yields:
        The records, cell by cell.
    """
    trials = manifest.trials
    for record in records.read_cells(results, trials, complain):
        requested = trials.get(record.cell["id"], set())
        if record.race is not None:
            if _chose_rate(record.race["lr"], requested):
                yield record
        elif record.trial is None or record.trial["id"] in requested:
            yield record


def _chose_rate(lr: float | None, trials: Collection[str]) -> bool:
    """Whether a race chose the rate of these trials, given by id. True if there are no trials yet.

    A run at given rates does not use the race of another command.
    """
    return not trials or any(f"-lr{lr!r}-" in trial for trial in trials)


def select_records(asked: Arguments, complain: Callable[[str], None]) -> list[Record]:
    """Read the records that pass the filters.

    Args:
        asked: The parsed command line.
        complain: Receives one line for each file that cannot be read.

    Returns:
        The records.

    Raises:
        ValueError: Nothing is recorded, or no record passes the filters.
    """
    gc.disable()  # records are many small objects that stay alive: the collector would scan them again and again
    if asked.run is None:
        recorded = list(records.read_all(asked.results, complain))
    else:
        recorded = list(of_run(asked.run, asked.results, complain))
    gc.freeze()
    gc.enable()
    if not recorded and asked.run is not None:
        raise ValueError(f"run={asked.run.id} has recorded nothing yet; its command was: {asked.run.shown}")
    if not recorded:
        raise ValueError(nothing_recorded(asked.results))
    # Records of the same cell may name its model differently. A cell passes as a whole if one of its records does.
    passing = {
        record.cell["id"]
        for record in recorded
        if all(record.cell[key] in names for key, names in asked.wanted.items())
    }
    selected = [record for record in recorded if record.cell["id"] in passing]
    if not selected:
        known = {key: sorted({str(record.cell[key]) for record in recorded}) for key in asked.wanted}
        valid = "; ".join(f"{key} is one of {', '.join(names[:12])}" for key, names in known.items())
        raise ValueError(f"none of the {len(recorded)} records in {asked.results} passes the filter; {valid}")
    return selected
