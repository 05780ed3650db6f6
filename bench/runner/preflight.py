"""What must hold before a command trains anything: folders that can be written, names that W&B takes."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.cells.cell import Cell
from bench.config.enums import Save
from bench.config.schema import TrackConf
from bench.runner.wandb_runs import folder_of_runs, mode_of

LONGEST_NAME, REFUSED = 128, "/\\#?%:"  # of a project in W&B


def check_ready(cells: Iterable[Cell], outputs: str = "outputs") -> None:
    """Check what all of these cells are going to write. ValueError: the setting, what is wrong, what to do.

    outputs: the folder that Hydra makes for a command.
    """
    checked: set[tuple[str, Path]] = set()
    for cell in cells:
        check_names(cell.conf.track)
        for setting, folder in [*_folders(cell), ("hydra.run.dir", Path(outputs))]:
            there = (setting, _nearest(setting, folder))
            if there not in checked:
                _check_folder(setting, *there[1:], folder)
                checked.add(there)


def check_names(track: TrackConf) -> None:
    """Refuse a project or an entity that W&B would refuse, run by run."""
    if mode_of(track.mode.value) == "off":
        return
    for key, name in (("project", track.project), ("entity", track.entity or "")):
        if found := [character for character in REFUSED if character in name]:
            raise ValueError(
                f"track.{key}={name} holds {found[0]!r}; W&B allows none of {' '.join(REFUSED)} in a name: choose "
                f"another {key}, or track=off"
            )
        if len(name) > LONGEST_NAME:
            raise ValueError(
                f"track.{key}={name} has {len(name)} characters; W&B allows {LONGEST_NAME}: choose a shorter {key}, or "
                "track=off"
            )


def _folders(cell: Cell) -> list[tuple[str, Path]]:
    """Where a cell writes, by the setting that says so."""
    conf = cell.conf
    found = [("results_dir", Path(conf.results_dir, cell.folder)), ("cache_dir", Path(conf.cache_dir))]
    if conf.save is not Save.none:
        found.append(("save_dir", Path(conf.save_dir, cell.folder)))
    if mode_of(conf.track.mode.value) != "off":
        found.append(("WANDB_DIR", Path(folder_of_runs())))
    return found


def _nearest(setting: str, folder: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    try:
        folder = folder.expanduser()
    except RuntimeError as error:  # ~nobody-of-that-name
        raise ValueError(f"{setting}={folder}: {error}; give a folder that can be written") from error
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _check_folder(setting: str, there: Path, wanted: Path) -> None:
    """Try to write where a folder is, or is to be made. Nothing is left behind."""
    name = f"{setting}: {wanted} cannot be written"
    if not there.is_dir():
        raise ValueError(f"{name}, because {there} is not a folder; choose another {setting}")
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix="."):
            pass
    except OSError as error:
        raise ValueError(f"{name} ({error.strerror} at {there}); choose another {setting}") from error
