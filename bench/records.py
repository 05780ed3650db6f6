"""Records: one self-contained JSON file per trial and per probe.

A file is written under a temporary name, flushed to the disk and renamed, so that a reader finds whole records only,
whoever is killed and however many write at once.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1
OUTCOMES = ("ok", "diverged", "oom", "failed", "interrupted")
FINAL = ("ok", "diverged")  # the others are tried again


class RecordError(ValueError):
    """A file that is no record of ours; the message is one line that names it."""


@dataclass(frozen=True)
class Record:
    """A finished trial (kind trial) or a measured cost (kind probe). Absent values are None.

    cell: id, title, model, task, method, rank, target, random. trial: id, lr, seed. error: type, message, traceback.
    curve: equally long lists. predictions: label numbers per part, in the data's order. results/README.md explains
    every field.
    """

    kind: str
    cell: dict[str, Any]
    trial: dict[str, Any] | None
    outcome: str
    error: dict[str, str] | None
    scores: dict[str, Any] | None
    predictions: dict[str, list[int]] | None
    curve: dict[str, list[float]] | None
    cost: dict[str, Any] | None
    identity: dict[str, Any]
    config: dict[str, Any]
    provenance: dict[str, Any]
    schema: int = SCHEMA

    @property
    def is_final(self) -> bool:
        """Whether the trial need not be run again."""
        return self.outcome in FINAL


def write(path: Path, record: Record) -> None:
    """Put a record in its place, whole or not at all. Top-level fields stand on a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in asdict(record).items())
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write("{\n" + ",\n".join(lines) + "\n}\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read(path: Path) -> Record:
    """Read one record. RecordError: torn, foreign, or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not a whole JSON file ({error}); delete it and run the cell again") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise RecordError(f"{path}: JSON, but no record of this benchmark; move it elsewhere")
    if content["schema"] != SCHEMA:
        raise RecordError(f"{path}: schema {content['schema']}, but this version reads {SCHEMA}; update the package")
    try:
        record = Record(**content)
    except TypeError as error:
        raise RecordError(f"{path}: fields do not match schema {SCHEMA} ({error})") from error
    if record.kind not in {"trial", "probe"} or record.outcome not in OUTCOMES:
        raise RecordError(f"{path}: unknown kind {record.kind!r} or outcome {record.outcome!r}")
    return record


def read_all(folder: Path, complain: Callable[[str], None]) -> Iterator[Record]:
    """Read every record below a folder, in the order of their paths; what is no record is complained of and left out."""
    for path in sorted(folder.rglob("*.json")):
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
