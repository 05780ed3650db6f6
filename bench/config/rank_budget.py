"""One budget of trained parameters for every cell: the rank that `match_params` chooses, cached in this process.

Hydra composes each job twice: once to check the whole grid, and once when the job runs. The rank depends only on the
configuration, so a worker searches for it once.
"""

import json
from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

from bench.cells.compatibility import Misfit
from bench.runner.launch import find_ranks_in_worker

FOUND: dict[str, int | str] = {}  # by configuration: the rank, or the reason why there is none


def search(configs: Iterable[DictConfig]) -> None:
    """Find and cache the ranks of all configurations that set `match_params`, in one worker.

    Raises:
        ValueError: A configuration is wrong for a reason other than its budget.
    """
    budgeted = {_key(config): config for config in configs if config.match_params is not None}
    new = {key: config for key, config in budgeted.items() if key not in FOUND}
    if new:
        FOUND.update(zip(new, find_ranks_in_worker(list(new.values())), strict=True))


def at_rank(config: DictConfig) -> DictConfig:
    """Return the configuration with the rank that its budget allows, or unchanged if it has no budget.

    Raises:
        Misfit: No rank comes close to the budget, or the method has no rank.
        ValueError: The configuration is wrong for another reason.
    """
    if config.match_params is None:
        return config
    search([config])
    rank = FOUND[_key(config)]
    if isinstance(rank, str):
        raise Misfit(rank)
    matched = config.copy()
    matched.rank = rank
    return matched


def _key(config: DictConfig) -> str:
    return json.dumps(OmegaConf.to_container(config, resolve=True, enum_to_str=True), sort_keys=True)
