"""What a command was asked and how it ended: a small file beside the records, by which the report shows it again."""

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
SHOWN = 5  # runs that a message names


@dataclass(frozen=True)
class Manifest:
    """One command of bench.run."""

    id: str  # when it began, in UTC, and four random digits; sorts by time
    command: list[str]  # arguments after `python -m bench.run`
    cells: list[dict[str, Any]]  # each with id, title, model, task and trials (their ids)
    began: str  # UTC
    ended: str | None  # UTC; None: it is still running, or was killed
    seconds: float | None
    exit: int | None  # the exit code
    provenance: dict[str, Any]  # version, commit, packages and machine
    kind: str = "run"
    schema: int = SCHEMA

    @property
    def trials(self) -> Mapping[str, set[str]]:
        """Ids of the trials by the id of their cell."""
        found: dict[str, set[str]] = {}
        for cell in self.cells:
            found.setdefault(cell["id"], set()).update(cell["trials"])
        return found

    @property
    def shown(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(["python", "-m", "bench.run", *self.command])


class Remembered:
    """Writes a manifest before the command's work and again after it, whatever ends it short of a kill.

    Its time begins with this object. A folder that cannot be written costs a line and not the command.
    """

    def __init__(
        self, results: Path, command: list[str], cells: Callable[[], list[dict[str, Any]]], say: Callable[[str], None]
    ) -> None:
        """cells: gives the cells as they are known by then, as in `Manifest.cells`. say: shows a line."""
        moment = datetime.now(UTC)
        name = f"{moment:%Y%m%d-%H%M%S.%f}-{uuid4().hex[:4]}"
        self.exit = 1  # the exit code; to be set where the work ends without an error
        self.manifest = Manifest(name, command, [], _text(moment), None, None, None, provenance())
        self._results, self._cells, self._say, self._begun = results, cells, say, time.monotonic()

    def __enter__(self) -> Self:
        self._write(cells=self._cells())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        code = self.exit
        if kind is not None:
            code = 130 if issubclass(kind, KeyboardInterrupt) else 2 if issubclass(kind, ValueError) else 1
        seconds = round(time.monotonic() - self._begun, 3)
        self._write(cells=self._cells(), ended=_text(datetime.now(UTC)), seconds=seconds, exit=code)

    def _write(self, **changes: Any) -> None:
        self.manifest = replace(self.manifest, **changes)
        path = self._results / FOLDER / f"{self.manifest.id}.json"
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in asdict(self.manifest).items())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        except OSError as error:
            self._say(f"this command is not remembered: {path} cannot be written ({error.strerror})")


def find_manifest(results: Path, name: str) -> Manifest:
    """The manifest of a run by its id, or of the last one that began. ValueError: there is none, or it is torn."""
    paths = {path.stem: path for path in (results / FOLDER).glob("*.json")}
    if not paths:
        raise ValueError(f"run={name}: no run is remembered in {results}; run 'python -m bench.run' first")
    wanted = max(paths) if name == LAST else name
    if wanted not in paths:
        raise ValueError(f"run={name} is unknown; choose from {', '.join([LAST, *sorted(paths)[: -SHOWN - 1 : -1]])}")
    return _read(paths[wanted])


def _read(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it") from error
    if not isinstance(content, dict) or content.get("kind") != "run":
        raise ValueError(f"{path}: describes no run of this benchmark; move it elsewhere")
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


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
