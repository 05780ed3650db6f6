"""Checks before a command trains anything: folders must be writable, and W&B must accept the names."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.cells.cell import Cell
from bench.config.enums import Save
from bench.config.schema import TrackConf
from bench.runner.wandb_session import folder_of_runs, mode_of

LONGEST_NAME, REFUSED = 128, "/\\#?%:"  # W&B's limit on a project name, and the characters it forbids


def check_ready(cells: Iterable[Cell], outputs: str = "outputs") -> None:
    """Check that everything these cells will write can be written.

    Args:
        cells: The cells of a command.
        outputs: The folder that Hydra creates for a command.

    Raises:
        ValueError: The setting, what is wrong, and what to do.
    """
    checked: set[tuple[str, Path]] = set()
    for cell in cells:
        check_names(cell.conf.track)
        for setting, folder in [*_folders(cell), ("hydra.run.dir", Path(outputs))]:
            existing = _nearest(setting, folder)
            if (setting, existing) not in checked:
                _check_folder(setting, existing, folder)
                checked.add((setting, existing))


def check_names(track: TrackConf) -> None:
    """Reject a project or entity that W&B would reject for every run.

    Raises:
        ValueError: A name has a forbidden character or is too long.
    """
    if mode_of(track.mode.value) == "off":
        return
    for key, name in (("project", track.project), ("entity", track.entity or "")):
        if forbidden := [character for character in REFUSED if character in name]:
            raise ValueError(
                f"track.{key}={name} contains {forbidden[0]!r}; W&B allows none of {' '.join(REFUSED)} in a name: "
                f"choose another {key}, or track=off"
            )
        if len(name) > LONGEST_NAME:
            raise ValueError(
                f"track.{key}={name} has {len(name)} characters; W&B allows {LONGEST_NAME}: choose a shorter {key}, or "
                "track=off"
            )


def _folders(cell: Cell) -> list[tuple[str, Path]]:
    """Return the folders that a cell writes to, each with the setting that chose it."""
    conf = cell.conf
    folders = [("results_dir", Path(conf.results_dir, cell.folder)), ("cache_dir", Path(conf.cache_dir))]
    if conf.save is not Save.none:
        folders.append(("save_dir", Path(conf.save_dir, cell.folder)))
    if mode_of(conf.track.mode.value) != "off":
        folders.append(("WANDB_DIR", Path(folder_of_runs())))
    return folders


def _nearest(setting: str, folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    try:
        folder = folder.expanduser()
    except RuntimeError as error:  # ~name of an unknown user
        raise ValueError(f"{setting}={folder}: {error}; give a folder that can be written") from error
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _check_folder(setting: str, existing: Path, folder: Path) -> None:
    """Raise ValueError if a temporary file cannot be written to a folder or its nearest existing parent."""
    message = f"{setting}: {folder} cannot be written"
    if not existing.is_dir():
        raise ValueError(f"{message}, because {existing} is not a folder; choose another {setting}")
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix="."):
            pass
    except OSError as error:
        raise ValueError(f"{message} ({error.strerror} at {existing}); choose another {setting}") from error
