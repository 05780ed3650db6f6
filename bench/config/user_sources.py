"""The source of a user's own functions, by hash: a function that was edited makes another cell."""

import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from bench.files.hashing import sha256

TARGET = "_target_"  # the key under which a configuration names a function
INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
OURS = Path(__file__).resolve().parents[1]


def targets_of(node: Any) -> Iterator[str]:
    """Every function that a node of the configuration names, at any depth."""
    if isinstance(node, dict):
        if TARGET in node:
            yield str(node[TARGET])
        for value in node.values():
            yield from targets_of(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from targets_of(value)


def own_sources(*nodes: Any) -> dict[str, str]:
    """Hashes of the files that define the user's own functions, by the functions' names.

    Our own functions are covered by the version of the numerics, those of installed packages by the versions in the
    records. What such a file imports in turn is not looked at.
    """
    files = {target: _file_of(target, tuple(sys.path)) for node in nodes for target in targets_of(node)}
    return {target: f"sha256:{sha256(path)}" for target, path in sorted(files.items()) if path is not None}


@cache
def _file_of(target: str, path: tuple[str, ...]) -> Path | None:
    """The user's file that defines a function; None for installed packages, for ours, and where there is none.

    Nothing is imported to find it: the command line must not import torch. path: where modules are looked for.
    """
    found, places, name = None, list(path), ""
    for part in target.split("."):
        name = f"{name}.{part}".lstrip(".")
        spec = PathFinder.find_spec(name, places)
        if spec is None:  # a function, or a class and its method
            break
        found, places = spec.origin, list(spec.submodule_search_locations or ())
    if found is None or not Path(found).is_file():
        return None
    file = Path(found).resolve()
    return None if any(file.is_relative_to(root) for root in (*INSTALLED, OURS)) else file
