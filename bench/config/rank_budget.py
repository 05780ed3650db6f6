"""One budget of trained parameters for every cell: the rank that `match_params` chooses, remembered by this process.

Hydra composes each job twice, once for the check of the whole grid and once for its turn. A rank is searched for once,
by a worker, and is a function of the configuration alone.
"""

import json
from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from bench.cells.compatibility import Misfit
from bench.runner.launch import find_ranks_in_worker

FOUND: dict[str, int | str] = {}  # a rank, or why there is none, by the configuration that it was searched for


def search(configs: Iterable[DictConfig]) -> None:
    """Find the ranks of those that ask for a budget, all of them in one worker.

    Raises:
        ValueError: A configuration is wrong for another reason than its budget.
    """
    asked = {_key(config): config for config in configs if config.match_params is not None}
    new = {key: config for key, config in asked.items() if key not in FOUND}
    if new:
        FOUND.update(zip(new, find_ranks_in_worker(list(new.values())), strict=True))


def at_rank(config: DictConfig) -> DictConfig:
    """Return the configuration at the rank that its budget allows, or as it is where it names no budget.

    Raises:
        Misfit: No rank comes near the budget, or the method has none.
        ValueError: The configuration is wrong for another reason.
    """
    if config.match_params is None:
        return config
    search([config])
    found = FOUND[_key(config)]
    if isinstance(found, str):
        raise Misfit(found)
    matched = config.copy()
    matched.rank = found
    return matched


def _key(config: DictConfig) -> str:
    return json.dumps(OmegaConf.to_container(config, resolve=True, enum_to_str=True), sort_keys=True)
