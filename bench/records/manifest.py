"""Manifests: one small file per command with its arguments and outcome, from which the report can show it again."""

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from bench.files.atomic import replace_file
from bench.records.provenance import provenance

FOLDER = ".runs"
SCHEMA = 1
LAST = "last"
SHOWN = 5  # runs listed in an error message


@dataclass(frozen=True)
class Manifest:
    """One command of bench.run.

    Attributes:
        id: Start time in UTC and four random digits; sorts by time.
        command: Arguments after `python -m bench.run`.
        cells: One dictionary per cell, with id, title, model, task and trials (their ids).
        began: Start time in UTC.
        ended: End time in UTC; None while the command runs, or if it was killed.
        seconds: Duration; None as for `ended`.
        exit: Exit code; None as for `ended`.
        provenance: Version, commit, packages and machine.
        kind: Always "run".
        schema: Version of the file format.
    """

    id: str
    command: list[str]
    cells: list[dict[str, Any]]
    began: str
    ended: str | None
    seconds: float | None
    exit: int | None
    provenance: dict[str, Any]
    kind: str = "run"
    schema: int = SCHEMA

    @property
    def trials(self) -> Mapping[str, set[str]]:
        """The ids of the trials, by the id of their cell."""
        trials: dict[str, set[str]] = {}
        for cell in self.cells:
            trials.setdefault(cell["id"], set()).update(cell["trials"])
        return trials

    @property
    def shown(self) -> str:
        """The command, quoted for a shell."""
        return shlex.join(["python", "-m", "bench.run", *self.command])


class Remembered:
    """Writes a command's manifest before its work and again after it, however the work ends unless it is killed.

    The measured time starts when this object is created. If the folder cannot be written, the user sees a message and
    the command continues.

    Args:
        results: The results folder. The manifest goes to its folder `.runs`.
        command: Arguments after `python -m bench.run`.
        cells: Returns the cells as known at the time of the call, as in `Manifest.cells`.
        say: Shows a line to the user.

    Attributes:
        exit: The exit code to write; to be set if the work ends without an error.
        manifest: The manifest as last written.
    """

    def __init__(
        self, results: Path, command: list[str], cells: Callable[[], list[dict[str, Any]]], say: Callable[[str], None]
    ) -> None:
        moment = datetime.now(UTC)
        name = f"{moment:%Y%m%d-%H%M%S.%f}-{uuid4().hex[:4]}"
        self.exit = 1
        self.manifest = Manifest(name, command, [], _timestamp(moment), None, None, None, provenance())
        self._results, self._cells, self._say, self._start = results, cells, say, time.monotonic()

    def __enter__(self) -> Self:
        self._write(cells=self._cells())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        code = self.exit
        if kind is not None:
            code = 130 if issubclass(kind, KeyboardInterrupt) else 2 if issubclass(kind, ValueError) else 1
        seconds = round(time.monotonic() - self._start, 3)
        self._write(cells=self._cells(), ended=_timestamp(datetime.now(UTC)), seconds=seconds, exit=code)

    def _write(self, **changes: Any) -> None:
        self.manifest = replace(self.manifest, **changes)
        path = self._results / FOLDER / f"{self.manifest.id}.json"
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(self.manifest).items())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        except OSError as error:
            self._say(f"no manifest of this command was saved: {path} cannot be written ({error.strerror})")


def find_manifest(results: Path, name: str) -> Manifest:
    """Read the manifest of a run.

    Args:
        results: The results folder.
        name: The id of a run, or "last" for the one that began last.

    Returns:
        The manifest.

    Raises:
        ValueError: There is no such run, or its file is damaged or has another schema version.
    """
    paths = {path.stem: path for path in (results / FOLDER).glob("*.json")}
    if not paths:
        raise ValueError(f"run={name}: no run is recorded in {results}; run 'python -m bench.run' first")
    run = max(paths) if name == LAST else name
    if run not in paths:
        raise ValueError(f"run={name} is unknown; choose from {', '.join([LAST, *sorted(paths)[: -SHOWN - 1 : -1]])}")
    return _read(paths[run])


def _read(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it") from error
    if not isinstance(content, dict) or content.get("kind") != "run":
        raise ValueError(f"{path}: not the manifest of a run of this benchmark; move it elsewhere")
    if content.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: schema {content.get('schema')!r}, but this version reads {SCHEMA}; update the package"
        )
    cells = content.get("cells")
    if (
        set(content) != set(Manifest.__dataclass_fields__)
        or not isinstance(cells, list)
        or not all(map(_is_cell, cells))
    ):
        raise ValueError(f"{path}: fields do not match schema {SCHEMA}; delete it")
    return Manifest(**content)


def _is_cell(cell: Any) -> bool:
    return isinstance(cell, dict) and isinstance(cell.get("id"), str) and isinstance(cell.get("trials"), list)


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
