"""What a command line asks of the report, and the records that it is asked of."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import records
from bench.records import Record

FILTERS = ("model", "task", "method")
SETTINGS = {
    "tables": ("table", "metric", "format", "published"),
    "figures": ("figure", "format"),
    "compare": ("a", "b"),
    "recommend": ("memory_gb", "params", "latency_ms", "minutes"),
    "serve": ("port",),
    "wandb": ("project", "entity"),
}


@dataclass(frozen=True)
class Asked:
    """command: of SETTINGS. wanted: the filters, with the names that pass. settings: the command's own."""

    command: str
    results: Path
    wanted: Mapping[str, set[str]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

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


def parse(arguments: list[str]) -> Asked:
    """Read a command and KEY=VALUE arguments. ValueError: an unknown one, or a folder that is not there."""
    command, rest = "tables", arguments
    if arguments and "=" not in arguments[0]:
        command, rest = arguments[0], arguments[1:]
    if command not in SETTINGS:
        raise ValueError(
            f"{command!r} is no command; choose from {', '.join(SETTINGS)}, or give KEY=VALUE alone for tables"
        )
    results, wanted, settings = Path("results"), {}, {}
    for argument in rest:
        key, given, value = argument.partition("=")
        if key == "results_dir" and value:
            results = Path(value).expanduser()
        elif key in FILTERS and value:
            wanted[key] = set(value.split(","))
        elif given and value and key in SETTINGS[command]:
            settings[key] = value
        else:
            allowed = ("results_dir", *FILTERS, *SETTINGS[command])
            raise ValueError(f"{argument!r} is no setting; choose from {'=, '.join(allowed)}=")
    if not results.is_dir():
        raise ValueError(f"results_dir={results} is not a folder; run 'python -m bench.run' first")
    return Asked(command, results, wanted, settings)


def chosen(asked: Asked, complain: Callable[[str], None]) -> list[Record]:
    """The records that pass the filters. ValueError: there are none."""
    gc.disable()  # records are many small things that stay: the collector would look at all of them again and again
    found = list(records.read_all(asked.results, complain))
    gc.freeze()
    gc.enable()
    named = {one.cell["id"] for one in found if all(one.cell[key] in names for key, names in asked.wanted.items())}
    passed = [one for one in found if one.cell["id"] in named]  # a model may be known under several names
    if not passed:
        known = {key: sorted({str(one.cell[key]) for one in found}) for key in asked.wanted}
        there = "; ".join(f"{key} is one of {', '.join(names[:12])}" for key, names in known.items() if names)
        raise ValueError(
            f"{len(found)} records in {asked.results}, and none to show; run 'python -m bench.run' first, or widen the "
            f"filter{f' ({there})' if there else ''}"
        )
    return passed
