"""Which code, which packages and which machine a number comes from."""

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
    """What does not change while this process runs. Commit and dirty are None outside a git checkout.

    Dirty means that a tracked file outside results/ differs from the commit.
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
    """The time in UTC, to the millisecond, as text that sorts by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
