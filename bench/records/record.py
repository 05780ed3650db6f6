"""Records: one self-contained JSON file per trial and per probe.

Each file is written under a temporary name, flushed to disk and then renamed. A reader therefore only finds complete
records, even if a writer is killed or several processes write at once.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.files.atomic import replace_file

SCHEMA = 1
KINDS = ("trial", "probe", "race")
OUTCOMES = ("ok", "diverged", "oom", "failed", "interrupted")
FINAL = ("ok", "diverged")  # trials with any other outcome are run again
# Folders below the results folder without records of the user: committed studies, benchmarks of the harness, and the
# manifests of past commands.
RESERVED = frozenset({"studies", "perf", ".runs"})
NEEDED = {  # keys that a reader may rely on, by field
    "cell": ("id", "title", "model", "task", "method", "rank", "target", "random"),
    "trial": ("id", "lr", "seed"),
    "scores": ("metric", "select", "report"),
    "predictions": ("select", "report"),
    "identity": (),
    "config": ("protocol", "precision"),
    "provenance": (),
    "race": ("rule", "published", "lr", "candidates"),
}
OPTIONAL = frozenset({"trial", "scores", "predictions", "race"})  # fields of NEEDED that may be None
CANDIDATE = frozenset({"lr", "outcome", "lowest"})  # keys that a reader may rely on in each candidate of a race


class RecordError(ValueError):
    """A file is not a valid record. The message is one line that names the file."""


class UnreadableError(RecordError):
    """A file may hold a result but cannot be used: it has another schema version, or reading it failed."""


class MissingError(RecordError):
    """There is no file."""


@dataclass(frozen=True)
class Record:
    """A finished trial, a measured cost or a race for the learning rate. Absent values are None.

    docs/records.md explains every field.

    Attributes:
        kind: `trial`, `probe` (a measured cost) or `race` (a search for the learning rate).
        cell: Id, title, model, task, method, rank, target, random.
        trial: Id, lr, seed.
        outcome: One of `OUTCOMES`.
        error: Type, message, traceback.
        scores: The metric, its values on select and report, and other scores.
        predictions: Label numbers (or predicted numbers) per part, in the order of the data.
        curve: Lists of equal length.
        cost: Time, memory and parameters: the trial's own, or those that the probe measured.
        identity: The settings that the cell's id is made from.
        config: The resolved configuration.
        provenance: Version, commit, packages, machine and time.
        saved: The folder of the saved adapter or merged model.
        truth: Only in a probe: the right answers per part, in the order of the data.
        race: The rule, the published rate, the chosen rate (`lr`, None while undecided) and the candidates.
        schema: Version of the record format.
    """

    kind: str
    cell: dict[str, Any]
    trial: dict[str, Any] | None
    outcome: str
    error: dict[str, str] | None
    scores: dict[str, Any] | None
    predictions: dict[str, list[Any]] | None
    curve: dict[str, list[float]] | None
    cost: dict[str, Any] | None
    identity: dict[str, Any]
    config: dict[str, Any]
    provenance: dict[str, Any]
    saved: str | None = None
    truth: dict[str, list[Any]] | None = None
    race: dict[str, Any] | None = None
    schema: int = SCHEMA

    @property
    def is_final(self) -> bool:
        """Whether the outcome is final, so that the trial need not run again."""
        return self.outcome in FINAL


def write(path: Path, record: Record, *, place: Path | None = None) -> None:
    """Write a record atomically, with one line per top-level field. An existing file is replaced.

    Args:
        path: The file to write.
        record: The record to store.
        place: The path to name in error messages, if it differs from `path`.

    Raises:
        ValueError: A number is not finite. Missing values must be None.
    """
    lines = (f" {json.dumps(key)}: {_dump(value, f'{place or path}: {key}')}" for key, value in asdict(record).items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())


def _dump(value: Any, where: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{where} contains a number that is not finite; use None for missing values") from error


def read(path: Path) -> Record:
    """Read one record.

    Raises:
        MissingError: There is no file.
        UnreadableError: The file has another schema version, or it cannot be opened.
        RecordError: The file is truncated, or it is not a record of this benchmark.
    """
    try:
        content = _parsed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{path}: no such file") from error
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a complete JSON file ({error}); delete it and run the cell again") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(f"{path}: valid JSON, but not a record of this benchmark; move it elsewhere")
    if content["schema"] != SCHEMA:
        raise UnreadableError(
            f"{path}: schema {content['schema']!r}, but this version reads {SCHEMA}; update the package"
        )
    try:
        record = Record(**content)
    except TypeError as error:
        raise RecordError(f"{path}: fields do not match schema {SCHEMA} ({error})") from error
    _check(record, path)
    return record


def _check(record: Record, path: Path) -> None:
    """Raise RecordError unless every field has the keys that a reader relies on."""
    if record.kind not in KINDS or record.outcome not in OUTCOMES:
        raise RecordError(f"{path}: unknown kind {record.kind!r} or outcome {record.outcome!r}")
    for name, keys in NEEDED.items():
        node = getattr(record, name)
        if node is None and name in OPTIONAL:
            continue
        if not isinstance(node, dict) or not set(keys) <= node.keys():
            raise RecordError(f"{path}: {name} does not match schema {SCHEMA}: {', '.join(keys) or 'object'} needed")
    if not _is_race(record.race) if record.kind == "race" else record.race is not None:
        raise RecordError(f"{path}: race does not match schema {SCHEMA} or kind {record.kind!r}")
    for name in ("model", "task", "method"):
        if not is_file_name(record.cell[name]):
            raise RecordError(
                f"{path}: cell.{name} is {record.cell[name]!r}, which is not a valid file name; delete it"
            )


def _is_race(race: dict[str, Any] | None) -> bool:
    """Return whether the rule is an object and every candidate has the keys that a reader relies on."""
    fields = race or {}
    candidates = fields.get("candidates")
    return (
        isinstance(fields.get("rule"), dict)
        and isinstance(candidates, list)
        and all(isinstance(candidate, dict) and candidate.keys() >= CANDIDATE for candidate in candidates)
    )


def first_line(error: Mapping[str, str] | None) -> str:
    """Return the first line of an error message.

    Args:
        error: The `error` field of a record: type, message, traceback.

    Returns:
        The first line of the message, the type if there is no message, or "" if there is no error.
    """
    lines = ((error or {}).get("message") or (error or {}).get("type") or "").strip().splitlines()
    return lines[0] if lines else ""


def is_file_name(name: Any) -> bool:
    """Return whether a name is valid for a single file or folder on any system, without leading to another path."""
    return isinstance(name, str) and name not in {"", ".", ".."} and not set(name) & set("/\\\0:")


def _parsed(content: bytes) -> Any:
    """Parse JSON. Raises ValueError or RecursionError with the messages of the standard library."""
    try:
        return orjson.loads(content)  # three times as fast; it rejects NaN too, but with an unclear message
    except orjson.JSONDecodeError:
        return json.loads(content.decode(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


def files_below(results: Path, pattern: str) -> list[Path]:
    """Return the user's own files below a results folder that match a pattern.

    Args:
        results: The results folder. Its `RESERVED` folders are skipped.
        pattern: A glob pattern, matched at any depth.

    Returns:
        The paths, sorted.
    """
    return sorted(path for path in results.rglob(pattern) if path.relative_to(results).parts[0] not in RESERVED)


def read_all(results: Path, complain: Callable[[str], None]) -> Iterator[Record]:
    """Read every record of a results folder.

    Args:
        results: The results folder.
        complain: Called with one line for each file that is not a valid record.

    Returns:
        The records, in the order of their paths.
    """
    return _read(files_below(results, "*.json"), complain)


def folders_by_id(results: Path) -> dict[str, list[Path]]:
    """Return the folders `MODEL/TASK/NAME-ID` of a results folder, by cell id."""
    folders = defaultdict(list)
    for folder in sorted(results.glob("*/*/*-*")):
        if folder.relative_to(results).parts[0] not in RESERVED:
            folders[folder.name.rpartition("-")[2]].append(folder)
    return folders


def read_cells(results: Path, ids: Collection[str], complain: Callable[[str], None]) -> Iterator[Record]:
    """Read the records of some cells. The files of other cells are not opened.

    Args:
        results: The results folder.
        ids: Ids of the cells.
        complain: Called with one line for each file that is not a valid record.

    Returns:
        The records, in the order of their paths.
    """
    folders = folders_by_id(results)
    paths = sorted(path for name in ids for folder in folders.get(name, []) for path in folder.glob("*.json"))
    return _read(paths, complain)


def _read(paths: Iterable[Path], complain: Callable[[str], None]) -> Iterator[Record]:
    for path in paths:
        try:
            yield read(path)
        except RecordError as error:
            complain(str(error))


def read_if_there(path: Path, complain: Callable[[str], None]) -> Record | None:
    """Read the record at a path, if there is a valid one.

    Args:
        path: The file to read.
        complain: Called with one line if the file is not a valid record.

    Returns:
        The record, or None if the file is missing or invalid.
    """
    try:
        return read(path)
    except MissingError:
        return None
    except RecordError as error:
        complain(str(error))
        return None
