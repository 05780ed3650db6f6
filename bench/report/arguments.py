"""What a command line asks of the report, and the records that it is asked of."""

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
LONGEST = 100  # characters of a file's name that say the filter
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
    """What a command line asks."""

    command: str  # of SETTINGS
    results: Path  # the folder of the records
    wanted: Mapping[str, set[str]] = field(default_factory=dict)  # the filters, with the names that pass
    settings: Mapping[str, str] = field(default_factory=dict)  # the command's own
    study: str | None = None  # the committed study whose records are read
    run: Manifest | None = None  # the run whose cells and trials alone are read

    @property
    def filtered(self) -> str:
        """The filters as one name of a file or folder; empty where every record of the folder passes."""
        named = [f"{key}={','.join(sorted(names))}" for key, names in sorted(self.wanted.items())]
        named += [f"run={self.run.id}"] if self.run else []
        name = re.sub(r"[^\w.,=+-]", "_", "+".join(named))
        return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def number(self, name: str, unit: str) -> float | None:
        """A setting as a number above 0. ValueError: it is none."""
        given = self.settings.get(name)
        if given is None:
            return None
        try:
            found = float(given)
        except ValueError:
            found = 0.0
        if not found > 0:
            raise ValueError(f"{name}={given} must be a number of {unit} above 0")
        return found


def parse(arguments: list[str]) -> Arguments:
    """Read a command and KEY=VALUE arguments. ValueError: an unknown one, or a folder that is not there."""
    command, rest = "tables", arguments
    if arguments and "=" not in arguments[0]:
        command, rest = arguments[0], arguments[1:]
    if command not in SETTINGS:
        raise ValueError(
            f"{command!r} is no command; choose from {', '.join(SETTINGS)}, or give KEY=VALUE alone for tables"
        )
    places, wanted, settings = {}, {}, {}
    for argument in rest:
        key, given, value = argument.partition("=")
        if key in PLACES and value:
            places[key] = value
        elif key in FILTERS and value:
            wanted[key] = set(value.split(","))
        elif given and value and key in SETTINGS[command]:
            settings[key] = value
        else:
            allowed = (*PLACES, *FILTERS, *SETTINGS[command])
            raise ValueError(f"unknown setting {argument!r}; choose from {'=, '.join(allowed)}=")
    name = places.pop("run", None)
    results = _folder(**places)
    run = None if name is None else find_manifest(results, name)
    return Arguments(command, results, wanted, settings, places.get("study"), run)


def _folder(results_dir: str | None = None, study: str | None = None) -> Path:
    """The folder of the records. ValueError: there is none, or two are named."""
    if study is not None:
        if results_dir is not None:
            raise ValueError(f"results_dir={results_dir} and study={study} name two places; give one of them")
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
    """What to do where there are no records yet."""
    shipped = study_names()
    other = f", or look at a study that is shipped: study={' or study='.join(shipped)}" if shipped else ""
    return f"nothing is recorded in {results} yet: run 'python -m bench.run {FIRST}'{other}"


def of_run(manifest: Manifest, results: Path, complain: Callable[[str], None]) -> Iterator[Record]:
    """The records of a run's own cells: their trials that it was asked for, their costs, and the races behind them."""
    trials = manifest.trials
    for record in records.read_cells(results, trials, complain):
        asked = trials.get(record.cell["id"], set())
        if record.race is not None:
            if _is_behind(record.race["lr"], asked):
                yield record
        elif record.trial is None or record.trial["id"] in asked:
            yield record


def _is_behind(lr: float | None, trials: Collection[str]) -> bool:
    """Whether a race belongs to a run that was asked for these trials: it chose their rate, or there are none so far.

    A run at given rates shows those, whatever another command found.
    """
    return not trials or any(f"-lr{lr!r}-" in one for one in trials)


def select_records(asked: Arguments, complain: Callable[[str], None]) -> list[Record]:
    """The records that pass the filters. ValueError: there are none."""
    gc.disable()  # records are many small things that stay: the collector would look at all of them again and again
    if asked.run is None:
        found = list(records.read_all(asked.results, complain))
    else:
        found = list(of_run(asked.run, asked.results, complain))
    gc.freeze()
    gc.enable()
    if not found and asked.run is not None:
        raise ValueError(f"run={asked.run.id} has recorded nothing yet; it was asked: {asked.run.shown}")
    if not found:
        raise ValueError(nothing_recorded(asked.results))
    named = {one.cell["id"] for one in found if all(one.cell[key] in names for key, names in asked.wanted.items())}
    passed = [one for one in found if one.cell["id"] in named]  # a model may be known under several names
    if not passed:
        known = {key: sorted({str(one.cell[key]) for one in found}) for key in asked.wanted}
        there = "; ".join(f"{key} is one of {', '.join(names[:12])}" for key, names in known.items())
        raise ValueError(f"none of the {len(found)} records in {asked.results} passes the filter; {there}")
    return passed
