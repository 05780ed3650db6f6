"""Find and identify the files of a task, without parsing them as data."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

from bench.config.schema import TaskConf
from bench.files.hashing import package_folder, sha256
from bench.files.hub import fetch

SHARD = re.compile(r"-\d+-of-\d+\.")  # one of several files into which the hub splits a single one
COMMIT = re.compile(r"[0-9a-f]{40}")


def data_identity(task: TaskConf) -> str:
    """Return an identity of the data that a task reads.

    It is a hash of the task's local files, or the pinned revision of its repository. The hash covers the files of each
    part in reading order, with the suffixes that determine how they are read. It does not depend on the patterns by
    which the files were found.

    Raises:
        ValueError: `task.path` lacks a file that the task names, or the task names no data.
    """
    if task.path is not None:
        files = locate(task.path, task.files, task.optional)
        lines = [f"{part} {suffix_of(path)} {sha256(path)}\n" for part in sorted(files) for path in files[part]]
        return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
    _check_named(task)
    return f"{task.repo}/{task.config}@{pinned_revision(task)}"


def suffix_of(path: Path) -> str:
    """Return a file's suffix in lower case and without .gz: .csv, .tsv, .parquet."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def pinned_revision(task: TaskConf) -> str | None:
    """Return the commit that `task.revision` names; None for a task with local files or without a revision.

    A branch or a tag may move, so its commit is looked up on the hub. Without a network it is looked up in the local
    cache.

    Raises:
        ValueError: neither the hub nor the cache has that revision.
    """
    if task.path is not None or task.repo is None or task.revision is None:
        return None
    if COMMIT.fullmatch(task.revision):
        return task.revision
    # The cache keeps each commit in a folder of its own: snapshots/<commit>.
    return _snapshot(task.repo, task.revision, _patterns(task), _remedy(task)).name


def files_of(task: TaskConf) -> dict[str, list[Path]]:
    """Return the files of each part, from a local folder or fetched from the hub.

    Raises:
        ValueError: the task names no data, a file is missing, or the hub cannot be reached.
    """
    _check_named(task)
    return locate(task.path, task.files, task.optional) if task.path is not None else _fetch(task)


def _check_named(task: TaskConf) -> None:
    if task.path is None and (task.repo is None or task.revision is None):
        raise ValueError(
            f"task {task.name!r} names no data: set task.path= to a local folder (or file), or task.repo= and "
            "task.revision="
        )


def locate(folder: str, wanted: Mapping[str, Sequence[str]], optional: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Find the files of each part. The first pattern that matches any file is used.

    Args:
        folder: a path, or `package:IMPORT_NAME/FOLDER`. If only one part is required, this may be its file.
        wanted: patterns for each part: {"train": ["train.tsv", "train*.parquet"], ...}.
        optional: parts that are left out if they have no file.

    Raises:
        ValueError: the folder does not exist, or a required part has no file.
    """
    root = _root(folder)
    required = [part for part in wanted if part not in optional]
    if root.is_file() and len(required) == 1:
        return {required[0]: [root]}
    if not root.is_dir():
        names = " and ".join(patterns[0] for patterns in wanted.values())
        raise ValueError(f"task.path={folder} is not a folder; point it at the folder that holds {names}")
    files = {part: _first(root, patterns) for part, patterns in wanted.items()}
    for part, paths in list(files.items()):
        if not paths and part in optional:
            del files[part]
        elif not paths:
            content = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
            raise ValueError(
                f"task.path={folder} has no file for {part!r} ({' or '.join(wanted[part])}); it holds {content}"
            )
    return files


def file_notes(task: TaskConf, files: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return notes on files that were joined into one part, and on data files that were not read.

    Args:
        task: names the patterns of its files.
        files: the files of each part, as returned by `files_of`.
    """
    notes = []
    for part, paths in files.items():
        if len(paths) > 1 and not all(SHARD.search(path.name) for path in paths):
            notes.append(f"{part} was joined from {_names(paths)}")
    root = next(iter(files.values()))[0].parent
    if task.path is not None and root != _root(task.path):
        return notes  # task.path is a single file
    read = {path for paths in files.values() for path in paths}
    for part, patterns in task.files.items():
        unread_matches = sorted({path for pattern in patterns for path in _matches(root, pattern)} - read)
        if unread_matches and part in files:
            notes.append(f"{part} was read from {_names(files[part])}, not from {_names(unread_matches)}")
        elif part not in files and task.path is not None and (unread := _data_files(task, root) - read):
            notes.append(f"{_names(sorted(unread))} was not read")
    return notes


def _names(paths: Sequence[Path]) -> str:
    return " and ".join(path.name for path in paths)


def _data_files(task: TaskConf, root: Path) -> set[Path]:
    """Return all files in a folder that have a suffix of the task's files."""
    patterns = {f"*{PurePosixPath(name.replace('*', '')).suffix}" for names in task.files.values() for name in names}
    return {path for pattern in patterns for path in _matches(root, pattern)}


def _root(folder: str) -> Path:
    return package_folder(folder) if folder.startswith("package:") else Path(folder).expanduser()


def _first(root: Path, patterns: Sequence[str]) -> list[Path]:
    matches = (_matches(root, pattern) for pattern in patterns)
    return next((paths for paths in matches if paths), [])


def _matches(root: Path, pattern: str) -> list[Path]:
    """Return the files that match a pattern in any case: TRAIN.CSV matches train*.csv."""
    folder, name = PurePosixPath(pattern).parent, PurePosixPath(pattern).name.lower()
    candidates = root.glob(str(folder / "*"))
    return sorted(path for path in candidates if fnmatchcase(path.name.lower(), name) and path.is_file())


def _fetch(task: TaskConf) -> dict[str, list[Path]]:
    """Fetch the files of the folder `task.config` of the repository, at its revision, or find them in the local cache.

    datasets.load_dataset is not used: without a network it takes the newest cached revision, not the requested one.
    """
    repo, revision = str(task.repo), str(task.revision)  # neither is None: see _check_named
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
    """Return the patterns of the task's files, relative to the root of its repository."""
    folder = task.config or ""
    return tuple(str(PurePosixPath(folder, pattern)) for names in task.files.values() for pattern in names)


@lru_cache(maxsize=64)
def _snapshot(repo: str, revision: str, patterns: tuple[str, ...], remedy: str) -> Path:
    """Fetch the files of a data set, or find them in the local cache, once per process.

    Returns:
        The cache folder of the commit.
    """
    from huggingface_hub import snapshot_download

    download = partial(snapshot_download, repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns))
    return fetch(download, repo, revision, kind="dataset", remedy=remedy)
