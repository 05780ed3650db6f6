"""Local files of a task: which are there, which are missing, and what they hold, without reading them as data."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def locate(folder: str, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Find each part's files: the first pattern that matches anything wins.

    wanted: {"train": ["train.tsv", "train*.parquet"], ...}. ValueError: no such folder, or a part without a file.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(f"task.path={folder} is not a folder; point it at the folder that holds {_names(wanted)}")
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


def _names(wanted: Mapping[str, Sequence[str]]) -> str:
    return " and ".join(patterns[0] for patterns in wanted.values())
