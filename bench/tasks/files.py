"""Files of a task: which are there, which are missing, and which bytes they are, without reading them as data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.content import package_folder, sha256_of
from bench.schema import TaskConf


def data_identity(task: TaskConf) -> str:
    """Name the bytes that a task reads: a hash of its files, or the pinned revision of its repository.

    ValueError: `task.path` lacks a file that the task names, or the task names no data at all.
    """
    if task.path is not None:
        paths = [path for paths in locate(task.path, task.files).values() for path in paths]
        return f"sha256:{sha256_of(paths)}"
    if task.repo is None or task.revision is None:
        raise ValueError(
            f"task {task.name!r} names no data: set task.path= to a local folder, or task.repo= and task.revision="
        )
    return f"{task.repo}/{task.config}@{task.revision}"


def locate(folder: str, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Find each part's files: the first pattern that matches anything wins.

    folder: a path, or `package:IMPORT_NAME/FOLDER`. wanted: {"train": ["train.tsv", "train*.parquet"], ...}.
    ValueError: no such folder, or a part without a file.
    """
    root = package_folder(folder) if folder.startswith("package:") else Path(folder).expanduser()
    if not root.is_dir():
        names = " and ".join(patterns[0] for patterns in wanted.values())
        raise ValueError(f"task.path={folder} is not a folder; point it at the folder that holds {names}")
    found = {part: _first(root, patterns) for part, patterns in wanted.items()}
    for part, paths in found.items():
        if not paths:
            held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
            raise ValueError(
                f"task.path={folder} has no file for {part!r} ({' or '.join(wanted[part])}); it holds {held}"
            )
    return found


def _first(root: Path, patterns: Sequence[str]) -> list[Path]:
    matches = (sorted(root.glob(pattern)) for pattern in patterns)
    return next((paths for paths in matches if paths), [])
