"""Files of a task: which are there, which are missing, and which bytes they are, without reading them as data."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

from bench.config.schema import TaskConf
from bench.files.hashing import package_folder, sha256
from bench.files.hub import fetch

SHARD = re.compile(r"-\d+-of-\d+\.")  # a file of the hub that is cut into pieces, which belong together
COMMIT = re.compile(r"[0-9a-f]{40}")


def data_identity(task: TaskConf) -> str:
    """Name the bytes that a task reads: a hash of its files, or the pinned revision of its repository.

    The hash is of each part's files in the order in which they are read, with the endings that say how: which patterns
    have found them does not matter.

    ValueError: `task.path` lacks a file that the task names, or the task names no data at all.
    """
    if task.path is not None:
        found = locate(task.path, task.files, task.optional)
        lines = [f"{part} {suffix_of(path)} {sha256(path)}\n" for part in sorted(found) for path in found[part]]
        return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
    _check_named(task)
    return f"{task.repo}/{task.config}@{pinned_revision(task)}"


def suffix_of(path: Path) -> str:
    """What a file is, whatever the case of its name and whether it is gzipped: .csv, .tsv, .parquet."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def pinned_revision(task: TaskConf) -> str | None:
    """Return the commit that `task.revision` names; None for a task without one.

    A branch or a tag may move, so its commit is looked up on the hub, or without a network in the local cache.

    Raises:
        ValueError: Neither has that revision.
    """
    if task.path is not None or task.repo is None or task.revision is None:
        return None
    if COMMIT.fullmatch(task.revision):
        return task.revision
    # The cache keeps each commit in a folder of its own: snapshots/<commit>.
    return _snapshot(task.repo, task.revision, _patterns(task), _remedy(task)).name


def files_of(task: TaskConf) -> dict[str, list[Path]]:
    """Each part's files, of a local folder or fetched from the hub. ValueError: there are none, or no hub."""
    _check_named(task)
    return locate(task.path, task.files, task.optional) if task.path is not None else _fetch(task)


def _check_named(task: TaskConf) -> None:
    if task.path is None and (task.repo is None or task.revision is None):
        raise ValueError(
            f"task {task.name!r} names no data: set task.path= to a local folder (or file), or task.repo= and "
            "task.revision="
        )


def locate(folder: str, wanted: Mapping[str, Sequence[str]], optional: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Find each part's files: the first pattern that matches anything wins.

    folder: a path, or `package:IMPORT_NAME/FOLDER`. wanted: {"train": ["train.tsv", "train*.parquet"], ...}. optional:
    parts that are left out where they have no file; where one part alone is not optional, the folder may be its file.
    ValueError: no such folder, or a part without a file.
    """
    root = _root(folder)
    needed = [part for part in wanted if part not in optional]
    if root.is_file() and len(needed) == 1:
        return {needed[0]: [root]}
    if not root.is_dir():
        names = " and ".join(patterns[0] for patterns in wanted.values())
        raise ValueError(f"task.path={folder} is not a folder; point it at the folder that holds {names}")
    found = {part: _first(root, patterns) for part, patterns in wanted.items()}
    for part, paths in list(found.items()):
        if not paths and part in optional:
            del found[part]
        elif not paths:
            held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
            raise ValueError(
                f"task.path={folder} has no file for {part!r} ({' or '.join(wanted[part])}); it holds {held}"
            )
    return found


def file_notes(task: TaskConf, files: Mapping[str, Sequence[Path]]) -> list[str]:
    """Say which files were joined into one part, and which lie beside them unread, where a reader might not expect it.

    files: what `files_of` gave.
    """
    found = []
    for part, paths in files.items():
        if len(paths) > 1 and not all(SHARD.search(path.name) for path in paths):
            found.append(f"{part} was joined from {_names(paths)}")
    root = next(iter(files.values()))[0].parent
    if task.path is not None and root != _root(task.path):
        return found  # one file alone was named
    read = {path for paths in files.values() for path in paths}
    for part, patterns in task.files.items():
        beside = sorted({path for pattern in patterns for path in _matches(root, pattern)} - read)
        if beside and part in files:
            found.append(f"{part} was read from {_names(files[part])}, not from {_names(beside)}")
        elif part not in files and task.path is not None and (unread := _data_files(task, root) - read):
            found.append(f"{_names(sorted(unread))} was not read")
    return found


def _names(paths: Sequence[Path]) -> str:
    return " and ".join(path.name for path in paths)


def _data_files(task: TaskConf, root: Path) -> set[Path]:
    """Whatever in a folder has an ending that the task reads."""
    endings = {f"*{PurePosixPath(name.replace('*', '')).suffix}" for names in task.files.values() for name in names}
    return {path for ending in endings for path in _matches(root, ending)}


def _root(folder: str) -> Path:
    return package_folder(folder) if folder.startswith("package:") else Path(folder).expanduser()


def _first(root: Path, patterns: Sequence[str]) -> list[Path]:
    matches = (_matches(root, pattern) for pattern in patterns)
    return next((paths for paths in matches if paths), [])


def _matches(root: Path, pattern: str) -> list[Path]:
    """The files that a pattern names, in any case: TRAIN.CSV is train*.csv."""
    within, name = PurePosixPath(pattern).parent, PurePosixPath(pattern).name.lower()
    beside = root.glob(str(within / "*"))
    return sorted(path for path in beside if fnmatchcase(path.name.lower(), name) and path.is_file())


def _fetch(task: TaskConf) -> dict[str, list[Path]]:
    """Fetch (or find in the local cache) the files of the folder `task.config` of the repository, at the revision.

    Not by datasets.load_dataset: without a network it takes the cached revision that is newest, not the one asked for.
    """
    repo, revision = str(task.repo), str(task.revision)  # neither is None: _check_named has refused that
    folder, remedy = task.config or "", _remedy(task)
    root = _snapshot(repo, revision, _patterns(task), remedy)
    try:
        return locate(str(root / folder), task.files, task.optional)
    except ValueError as error:
        wanted = " and ".join(" or ".join(names) for names in task.files.values())
        raise ValueError(
            f"data set {repo!r} has no {wanted} in {folder!r} at {revision}; "
            f"set task.config= to the folder that holds them, or {remedy}"
        ) from error


def _remedy(task: TaskConf) -> str:
    return f"set task.path= to a folder with {' and '.join(names[0] for names in task.files.values())}"


def _patterns(task: TaskConf) -> tuple[str, ...]:
    """The task's files as they lie in its repository."""
    folder = task.config or ""
    return tuple(str(PurePosixPath(folder, pattern)) for names in task.files.values() for pattern in names)


@lru_cache(maxsize=64)
def _snapshot(repo: str, revision: str, patterns: tuple[str, ...], remedy: str) -> Path:
    """Fetch (or find in the local cache) a data set's files; gives the folder of its commit. Asked once per process."""
    from huggingface_hub import snapshot_download

    download = partial(snapshot_download, repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns))
    return fetch(download, repo, revision, kind="dataset", remedy=remedy)
