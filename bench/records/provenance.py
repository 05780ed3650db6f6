"""The code, packages and machine that produced a number."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import __version__

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "tokenizers", "numpy", "hydra-core", "wandb")


@cache
def provenance() -> dict[str, Any]:
    """Return the facts about code and machine that stay constant while this process runs.

    Returns:
        Version, commit, dirty, package versions, Python version, platform and number of CPUs. `dirty` is True if a
        tracked file outside results/ differs from the commit. `commit` and `dirty` are None outside a git checkout.
    """
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    return {
        "version": __version__,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
    }


def now() -> str:
    """Return the UTC time to the millisecond, as text that sorts by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        completed = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return completed.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
