"""Content hashes, which identify local files and folders whatever they are called."""

import hashlib
import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=256)
def _digest(path: str, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - size and time are the cache's key
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. The hash is cached until the file's size or time changes."""
    stat = path.stat()
    return _digest(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def sha256_of(paths: Iterable[Path]) -> str:
    """Return one SHA-256 of the names and contents of several files. For one file, it is the hash of its content."""
    by_name = sorted(paths, key=lambda path: path.name)
    if len(by_name) == 1:
        return sha256(by_name[0])
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in by_name)
    return hashlib.sha256(lines.encode()).hexdigest()


def package_folder(name: str) -> Path:
    """Return the folder on disk of `package:IMPORT_NAME/FOLDER`, without importing the package.

    Raises:
        ValueError: The package is not installed.
    """
    package, _, folder = name.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a dotted name whose parent is missing, or an empty name
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"{name}: the package {package!r} is not installed; run 'pip install {package.replace('_', '-')}' "
            "or name a hub repository or a local folder instead"
        )
    return Path(next(iter(spec.submodule_search_locations))) / folder
