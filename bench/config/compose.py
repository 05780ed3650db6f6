"""From a command line to the cells it means, all of them checked before the first one runs.

Hydra composes job by job and would meet a wrong value only when its turn comes; here the same composition runs once
over the whole grid beforehand, and a mistake is one clear line.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """All cells of a command line, in its order; equal ones appear as often as they are named.

    extra: a directory of the user's own yaml files, searched first. say: is told what of a grid makes no sense and is
    left out. ValueError: one line about what is wrong, or that nothing of the grid makes sense.
    """
    register()
    search = [f"hydra.searchpath=[file://{Path(extra).resolve()}]"] if extra else []
    with initialize_config_dir(str(CONF), version_base="1.3"), plain_errors():
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", overrides + search, RunMode.MULTIRUN if multirun else RunMode.RUN)
        params = dict(master.hydra.sweeper.get("params") or {})
        given = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        _check_sweep(params, given, multirun=multirun)
        found: Iterable[DictConfig] = [master]
        if multirun:
            listed = [f"{key}={value}" for key, value in params.items()]
            parsed = OverridesParser.create(config_loader=loader).parse_overrides([*listed, *overrides])
            (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
            found = (loader.load_sweep_config(master, list(job)) for job in jobs)
        composed = []
        for config in map(_without_hydra, found):
            _check_budget(config, given)
            _check_rank(config, params, given)
            composed.append(config)
        if not multirun:
            return [Cell.of(budget.at_rank(composed[0]))]
        budget.search(composed)
        return _fitting(composed, say)


def _check_sweep(params: dict[str, str], given: list[Override], *, multirun: bool) -> None:
    """A sweep is a grid, and Hydra would overlook it without -m, or where two are named. ValueError: it would."""
    if any(one.key_or_group == "sweeps" and one.is_sweep_override() for one in given):
        raise ValueError("+sweeps= takes one sweep; run one command for each")
    left = set(params) - {one.get_key_element() for one in given}
    if left and not multirun:
        raise ValueError(f"the sweep lists values of {', '.join(sorted(left))}: add -m, or give one value of each")


def _check_budget(config: DictConfig, given: list[Override]) -> None:
    """Refuse epochs on the command line where steps, which go before them, are set."""
    epochs = next((one for one in given if one.key_or_group in {"protocol.epochs", "task.epochs"}), None)
    if epochs is not None and config.protocol.steps is not None:
        raise ValueError(f"protocol.steps={config.protocol.steps} {epochs.input_line}: give one, steps or epochs")


def _check_rank(config: DictConfig, params: dict[str, str], given: list[Override]) -> None:
    """Refuse a rank beside `match_params`, which chooses it."""
    if config.match_params is None:
        return
    chosen = f"match_params={config.match_params} chooses the rank"
    if named := [one.input_line for one in given if one.get_key_element() == "rank"]:
        raise ValueError(f"{chosen}; leave out {named[-1]}, or give match_params=null")
    if "rank" in params:
        raise ValueError(f"{chosen}, and the sweep lists rank={params['rank']}; leave out one of them")


def _fitting(configs: Iterable[DictConfig], say: Callable[[str], None]) -> list[Cell]:
    """The cells that make sense; of the others each reason is told once."""
    found, misfits = [], []
    for config in configs:
        try:
            found.append(Cell.of(budget.at_rank(config)))
        except Misfit as misfit:
            misfits.append(misfit)
    if misfits and not found:
        raise misfits[0]
    for reason in dict.fromkeys(map(str, misfits)):
        say(f"left out: {reason}")
    return found


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise about a configuration into a ValueError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(one_line(error)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.name}, line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}no valid YAML ({error.problem})") from error


def one_line(error: BaseException) -> str:
    """Say in one line what was wrong, what is allowed and what to do."""
    text = str(error)
    if missing := re.search(r"Could not find '([^'/]+)/([^']+)'", text):
        choices = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
        return f"{missing[1]} {missing[2]!r} is unknown; choose from {', '.join(choices)}"
    if missing := re.search(r"Could not override '([^']+)'", text):
        if add := re.search(r"To append to your default list use (\S+)", text):
            return f"unknown setting {missing[1]!r}; write {add[1]}"
        valid = _allowed(str(error.__cause__))
        return f"unknown setting {missing[1]!r}; 'python -m bench.run --help' lists them{valid}"
    if isinstance(error, OverrideParseException):
        hint = (
            """quote lists for the shell, such as 'lrs=[1e-4,5e-4]', and texts twice: "task.cloze='{text} {mask}'\""""
        )
        return f"{error.override}: {text.splitlines()[0]}; {hint}"
    if isinstance(error.__cause__, OmegaConfBaseException):
        text = f"{text}\n{error.__cause__}"
    where = re.search(r"In '([^']+)'", text)
    key = re.search(r"full_key: (\S+)", text)
    said = [
        line
        for line in text.splitlines()
        if not re.match(r"In '|Error merging override|\s*(full_key|object_type|reference_type)", line)
    ]
    return (
        f"{f'conf {where[1]}: ' if where else ''}{f'{key[1]}: ' if key else ''}{' '.join(' '.join(said).split())}"
        f"{_allowed(text) if 'not in' in text else ''}"
    )


def _allowed(text: str) -> str:
    node = re.search(r"object_type=(\w+)", text)
    known = getattr(schema, node[1], None) if node else None
    return f"; valid settings there: {', '.join(known.__dataclass_fields__)}" if known else ""
