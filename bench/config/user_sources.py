"""Hashes of the source of a user's own functions. Editing such a function results in a different cell."""

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
    """Yield the path of every function that a node of the configuration names, at any depth."""
    if isinstance(node, dict):
        if TARGET in node:
            yield str(node[TARGET])
        for value in node.values():
            yield from targets_of(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from targets_of(value)


def own_sources(*nodes: Any) -> dict[str, str]:
    """Return a hash of the file of each of the user's own functions.

    The version of our numerics covers our functions, and the versions in the records cover installed packages. Files
    that a user's file imports are not hashed.

    Returns:
        "sha256:" and the hash of the file, by the function's path.
    """
    files = {target: _file_of(target, tuple(sys.path)) for node in nodes for target in targets_of(node)}
    return {target: f"sha256:{sha256(path)}" for target, path in sorted(files.items()) if path is not None}


@cache
def _file_of(target: str, path: tuple[str, ...]) -> Path | None:
    """Return the user's file that defines a function. None for installed packages, for our own, and if there is none.

    The file is found without imports, because the command line must not import torch.

    Args:
        target: The function's path, such as "package.module.function".
        path: The folders in which to look for modules.
    """
    origin, places, name = None, list(path), ""
    for part in target.split("."):
        name = f"{name}.{part}".lstrip(".")
        spec = PathFinder.find_spec(name, places)
        if spec is None:  # the rest is a function, or a class and its method
            break
        origin, places = spec.origin, list(spec.submodule_search_locations or ())
    if origin is None or not Path(origin).is_file():
        return None
    file = Path(origin).resolve()
    return None if any(file.is_relative_to(root) for root in (*INSTALLED, OURS)) else file
