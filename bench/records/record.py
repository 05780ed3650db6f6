"""Records: one self-contained JSON file per trial and per probe.

A file is written under a temporary name, flushed to the disk and renamed, so that a reader finds whole records only,
whoever is killed and however many write at once.
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
FINAL = ("ok", "diverged")  # the others are tried again
# Folders of the results that hold no records of the user's: committed studies, benchmarks of the harness, and what
# commands were asked.
RESERVED = frozenset({"studies", "perf", ".runs"})
NEEDED = {  # what a reader may take for granted
    "cell": ("id", "title", "model", "task", "method", "rank", "target", "random"),
    "trial": ("id", "lr", "seed"),
    "scores": ("metric", "select", "report"),
    "predictions": ("select", "report"),
    "identity": (),
    "config": ("protocol", "precision"),
    "provenance": (),
    "race": ("rule", "published", "lr", "candidates"),
}
OPTIONAL = frozenset({"trial", "scores", "predictions", "race"})  # of NEEDED, what may be absent
CANDIDATE = frozenset({"lr", "outcome", "lowest"})  # of a race, what a reader takes for granted of each candidate


class RecordError(ValueError):
    """A file that is no record of ours; the message is one line that names it."""


class UnreadableError(RecordError):
    """A file that may well hold a result, but not for us: it is of another version, or may not be read."""


@dataclass(frozen=True)
class Record:
    """A finished trial (kind trial), a measured cost (probe) or a search for the learning rate (race); absent is None.

    cell: id, title, model, task, method, rank, target, random. trial: id, lr, seed. error: type, message, traceback.
    curve: equally long lists. predictions: label numbers (or predicted numbers) per part, in the data's order. saved:
    the folder of the adapter or merged model. truth: in a probe, the right answers per part, in the same order. race:
    the rule, the published rate, the chosen one (lr; None while undecided) and the candidates. results/README.md
    explains every field.
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
        """Whether the trial need not be run again."""
        return self.outcome in FINAL


def write(path: Path, record: Record, *, place: Path | None = None) -> None:
    """Write a record, whole or not at all, whatever is there. Top-level fields stand on a line each.

    place: the path that a complaint names, where it is not this one. ValueError: a number that is not finite; what is
    absent is None.
    """
    lines = (f" {json.dumps(key)}: {_dump(value, f'{place or path}: {key}')}" for key, value in asdict(record).items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())


def _dump(value: Any, where: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{where} holds a number that is not finite; write None for what is absent") from error


def read(path: Path) -> Record:
    """Read one record. RecordError: torn, foreign, or of another version."""
    try:
        content = _parsed(path.read_bytes())
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a whole JSON file ({error}); delete it and run the cell again") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(f"{path}: JSON, but no record of this benchmark; move it elsewhere")
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
    """RecordError: a field does not hold what a reader takes for granted."""
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
            raise RecordError(f"{path}: cell.{name} is {record.cell[name]!r}, which is no name of a file; delete it")


def _is_race(race: dict[str, Any] | None) -> bool:
    """Whether the rule is an object, and every candidate has what a reader takes for granted."""
    found = race or {}
    candidates = found.get("candidates")
    return (
        isinstance(found.get("rule"), dict)
        and isinstance(candidates, list)
        and all(isinstance(one, dict) and one.keys() >= CANDIDATE for one in candidates)
    )


def first_line(error: Mapping[str, str] | None) -> str:
    """The first line of what a record says went wrong, or its type; empty where nothing did."""
    lines = ((error or {}).get("message") or (error or {}).get("type") or "").strip().splitlines()
    return lines[0] if lines else ""


def is_file_name(name: Any) -> bool:
    """Whether a name can be that of one folder or file: it leads nowhere else, on any system."""
    return isinstance(name, str) and name not in {"", ".", ".."} and not set(name) & set("/\\\0:")


def _parsed(content: bytes) -> Any:
    """What a file holds. ValueError, RecursionError: it is no JSON, in the words of the standard library."""
    try:
        return orjson.loads(content)  # three times as fast, and it refuses NaN, but does not say so
    except orjson.JSONDecodeError:
        return json.loads(content.decode(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def files_below(results: Path, pattern: str) -> list[Path]:
    """The user's own files of a results folder that match a pattern, at any depth, in the order of their paths."""
    return sorted(path for path in results.rglob(pattern) if path.relative_to(results).parts[0] not in RESERVED)


def read_all(results: Path, complain: Callable[[str], None]) -> Iterator[Record]:
    """Read every record of a results folder, in the order of their paths; complain of files that hold none."""
    return _read(files_below(results, "*.json"), complain)


def folders_by_id(results: Path) -> dict[str, list[Path]]:
    """The folders MODEL/TASK/NAME-ID of the results, by the cell's id."""
    found = defaultdict(list)
    for folder in sorted(results.glob("*/*/*-*")):
        if folder.relative_to(results).parts[0] not in RESERVED:
            found[folder.name.rpartition("-")[2]].append(folder)
    return found


def read_cells(results: Path, ids: Collection[str], complain: Callable[[str], None]) -> Iterator[Record]:
    """Read the records of some cells, without a look at those of others."""
    folders = folders_by_id(results)
    return _read(sorted(path for name in ids for one in folders.get(name, []) for path in one.glob("*.json")), complain)


def _read(paths: Iterable[Path], complain: Callable[[str], None]) -> Iterator[Record]:
    for path in paths:
        try:
            yield read(path)
        except RecordError as error:
            complain(str(error))


def read_if_there(path: Path, complain: Callable[[str], None]) -> Record | None:
    """The record at a path; None where there is none, or one that cannot be read."""
    try:
        return read(path) if path.exists() else None
    except RecordError as error:
        complain(str(error))
        return None
