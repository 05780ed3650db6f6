"""Write the sweeps in the format of `wandb agent`: the same grid, with one cell per job.

python -m bench.agent      writes sweeps/wandb/NAME.yaml for every sweeps/NAME.yaml

A cell is not split further, because the race for its learning rate needs all candidates in one place.
"""

import sys
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString

from bench.config.compose import CONF
from bench.config.register import SWEEPS, register

HEADER = """\
# Written by python -m bench.agent from sweeps/{name}.yaml, which says what it is. One cell to a job:
#   wandb sweep sweeps/wandb/{name}.yaml, then wandb agent ID on as many machines as there are
"""


def names() -> list[str]:
    """Return the names of all sweeps."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def as_wandb(name: str) -> dict[str, Any]:
    """Return W&B's configuration of a sweep: every axis with its values, and the command of a job.

    Args:
        name: The name of the sweep, as in `+sweeps=`.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"+sweeps={name}"], return_hydra_config=True)
    axes = {key: _values(f"{key}={value}") for key, value in config.hydra.sweeper.params.items()}
    return {
        "name": name,
        "program": "bench.run",
        "method": "grid",
        "metric": {"name": "score/select", "goal": "maximize"},  # the report part must never choose
        "parameters": {
            key: {"values": values} if len(values) > 1 else {"value": values[0]} for key, values in axes.items()
        },
        "command": ["${env}", "${interpreter}", "-m", "bench.run", f"+sweeps={name}", "${args_no_hyphens}"],
    }


def as_text(name: str) -> str:
    """Return the text of a sweep's file for W&B."""
    return HEADER.format(name=name) + yaml.safe_dump(as_wandb(name), sort_keys=False, width=120)


def _values(override: str) -> list[Any]:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    value = parsed.value()
    choices = value.list if isinstance(value, ChoiceSweep) else [value]
    return [choice.text if isinstance(choice, QuotedString) else choice for choice in choices]


def cli() -> int:
    """Write the files of all sweeps, and return exit code 0."""
    for name in names():
        path = SWEEPS / "wandb" / f"{name}.yaml"
        path.write_text(as_text(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(cli())
