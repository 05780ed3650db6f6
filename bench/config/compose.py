"""From a command line to its cells, all of them checked before the first one runs.

Hydra composes one job at a time, so it would find a wrong value only when that job starts. This module composes the
whole grid in advance, and reports a mistake in one line.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.cells.cell import Cell
from bench.cells.compatibility import Misfit
from bench.config import rank_budget as budget
from bench.config import schema
from bench.config.register import register, shipped

CONF = shipped("conf")


def cells(
    overrides: list[str], *, multirun: bool, extra: str | None = None, say: Callable[[str], None] = lambda _: None
) -> list[Cell]:
    """Return all cells of a command line, in its order. A cell that is named twice appears twice.

    Args:
        overrides: The arguments of the command line, such as "method=lora,bitfit".
        multirun: Whether the command line describes a grid (`-m`).
        extra: A directory of the user's own yaml files, searched before ours.
        say: Receives one line for each reason to leave invalid combinations out of the grid.

    Raises:
        ValueError: The input is wrong, or no combination of the grid is valid. The message is one line.
    """
    register()
    search = [f"hydra.searchpath=[file://{Path(extra).resolve()}]"] if extra else []
    with initialize_config_dir(str(CONF), version_base="1.3"), plain_errors():
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", overrides + search, RunMode.MULTIRUN if multirun else RunMode.RUN)
        params = dict(master.hydra.sweeper.get("params") or {})
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        _check_sweep(params, parsed, multirun=multirun)
        configs: Iterable[DictConfig] = [master]
        if multirun:
            swept = [f"{key}={value}" for key, value in params.items()]
            axes = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *overrides])
            (jobs,) = BasicSweeper.split_arguments(axes, max_batch_size=None)
            configs = compose_jobs(loader, master, jobs)
        composed = []
        for config in map(_without_hydra, configs):
            _check_budget(config, parsed)
            _check_rank(config, params, parsed)
            composed.append(config)
        if not multirun:
            return [Cell.of(budget.at_rank(composed[0]))]
        budget.search(composed)
        return _valid_cells(composed, say)


def compose_jobs(loader: Any, master: DictConfig, jobs: Iterable[Sequence[str]]) -> Iterator[DictConfig]:
    """Compose the jobs of a grid as Hydra does, but read the yaml files of each combination only once.

    Values such as `rank=8` are set on copies, which is several times as fast.

    Args:
        loader: Hydra's `ConfigLoaderImpl`.
        master: The configuration of the whole command.
        jobs: The overrides of each job, such as `["method=lora", "rank=8"]`.

    Yields:
        The configuration of each job, in order.
    """
    # Hydra has no public way to list the groups of a search path, or to set values on a composed configuration.
    list_files, set_values = loader._parse_overrides_and_create_caching_repo, loader._apply_overrides_to_config  # noqa: SLF001
    _, files = list_files(master.hydra.job.config_name, list(master.hydra.overrides.hydra))
    parser = OverridesParser.create(config_loader=loader)
    composed: dict[tuple[str, ...], DictConfig] = {}
    for job in jobs:
        choices, values = [], []
        for text, override in zip(job, parser.parse_overrides(list(job)), strict=True):
            chooses = files.group_exists(override.key_or_group) or override.is_hydra_override()
            choices.append(text) if chooses else values.append(override)
        if tuple(choices) not in composed:
            composed[tuple(choices)] = loader.load_sweep_config(master, choices)
        config = deepcopy(composed[tuple(choices)])
        set_values(values, config)
        yield config


def _check_sweep(params: dict[str, str], overrides: list[Override], *, multirun: bool) -> None:
    """Refuse a sweep that Hydra would silently ignore: one without -m, or two at once."""
    if any(override.key_or_group == "sweeps" and override.is_sweep_override() for override in overrides):
        raise ValueError("+sweeps= takes one sweep; run one command for each")
    open_axes = set(params) - {override.get_key_element() for override in overrides}
    if open_axes and not multirun:
        raise ValueError(f"the sweep lists values of {', '.join(sorted(open_axes))}: add -m, or give one value of each")


def _check_budget(config: DictConfig, overrides: list[Override]) -> None:
    """Refuse epochs on the command line if steps are set, because steps take precedence."""
    keys = {"protocol.epochs", "task.epochs"}
    epochs = next((override for override in overrides if override.key_or_group in keys), None)
    if epochs is not None and config.protocol.steps is not None:
        raise ValueError(
            f"protocol.steps={config.protocol.steps} and {epochs.input_line} are both set; give either steps or epochs"
        )


def _check_rank(config: DictConfig, params: dict[str, str], overrides: list[Override]) -> None:
    """Refuse a rank together with `match_params`, which chooses the rank."""
    if config.match_params is None:
        return
    chosen = f"match_params={config.match_params} chooses the rank"
    if ranks := [override.input_line for override in overrides if override.get_key_element() == "rank"]:
        raise ValueError(f"{chosen}; leave out {ranks[-1]}, or give match_params=null")
    if "rank" in params:
        raise ValueError(f"{chosen}, but the sweep lists rank={params['rank']}; leave out one of them")


def _valid_cells(configs: Iterable[DictConfig], say: Callable[[str], None]) -> list[Cell]:
    """Return the cells of valid combinations, and report each reason for leaving out the others once."""
    valid, misfits = [], []
    for config in configs:
        try:
            valid.append(Cell.of(budget.at_rank(config)))
        except Misfit as misfit:
            misfits.append(misfit)
    if misfits and not valid:
        raise misfits[0]
    for reason in dict.fromkeys(map(str, misfits)):
        say(f"left out: {reason}")
    return valid


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors of Hydra, OmegaConf and YAML about a configuration into a ValueError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(one_line(error)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.name}, line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}invalid YAML ({error.problem})") from error


def one_line(error: BaseException) -> str:
    """Return a one-line message that says what was wrong, what is allowed and what to do."""
    text = str(error)
    if missing := re.search(r"Could not find '([^'/]+)/([^']+)'", text):
        choices = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        return f"{missing[1]} {missing[2]!r} is unknown; choose from {', '.join(choices)}"
    if missing := re.search(r"Could not override '([^']+)'", text):
        if appended := re.search(r"To append to your default list use (\S+)", text):
            return f"unknown setting {missing[1]!r}; write {appended[1]}"
        valid = _valid_settings(str(error.__cause__))
        return f"unknown setting {missing[1]!r}; 'python -m bench.run --help' lists the settings{valid}"
    if missing := re.search(r"type `(\w+)Conf` has missing mandatory value: (\w+)", text):
        return f"{missing[1].lower()}.{missing[2]} is missing: set it in the yaml of the {missing[1].lower()}"
    if isinstance(error, OverrideParseException):
        hint = (
            """quote lists for the shell, such as 'lrs=[1e-4,5e-4]', and texts twice: "task.cloze='{text} {mask}'\""""
        )
        return f"{error.override}: {text.splitlines()[0]}; {hint}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        text = f"{text}\n{error.__cause__}"
    where = re.search(r"In '([^']+)'", text)
    key = re.search(r"full_key: (\S+)", text)
    message = [
        line
        for line in text.splitlines()
        if not re.match(r"In '|Error merging override|\s*(full_key|object_type|reference_type)", line)
    ]
    return (
        f"{f'conf {where[1]}: ' if where else ''}{f'{key[1]}: ' if key else ''}{' '.join(' '.join(message).split())}"
        f"{_valid_settings(text) if 'not in' in text else ''}"
    )


def _valid_settings(text: str) -> str:
    """Return a list of the settings of the node that an OmegaConf error names, or an empty text."""
    node = re.search(r"object_type=(\w+)", text)
    node_type = getattr(schema, node[1], None) if node else None
    return f"; valid settings there: {', '.join(node_type.__dataclass_fields__)}" if node_type else ""
