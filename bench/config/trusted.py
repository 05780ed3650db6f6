"""Which functions a record may name: only those that a yaml file names too. Records are data and run nothing else."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from bench.config.former_paths import with_current_paths
from bench.config.register import shipped
from bench.config.user_sources import targets_of


def known_targets(own: Path | None = None) -> frozenset[str]:
    """Return the names of all functions in the shipped configuration and in the user's own folder.

    Args:
        own: The folder of the user's own yaml files (`--config-dir`).
    """
    folders = [shipped("conf"), *([own] if own else [])]
    return frozenset(
        target
        for folder in folders
        for path in sorted(folder.rglob("*.yaml"))
        for target in targets_of(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    )


def check_targets(config: dict[str, Any], known: Collection[str], where: str) -> None:
    """Refuse a configuration that names an unknown function.

    Args:
        config: The configuration of a record.
        known: The functions that may be called, from `known_targets`.
        where: The place to name in the message.

    Raises:
        ValueError: The configuration names another function. The message says which one and what to do.
    """
    if unknown := [target for target in targets_of(with_current_paths(config)) if target not in known]:
        raise ValueError(
            f"{where} wants to call {unknown[0]}, which no yaml file here names; if it is a method or task of your "
            "own, give --config-dir= with the folder of its yaml"
        )
