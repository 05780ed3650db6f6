"""What Hydra needs before it composes: the types of the configuration, the sweeps, and two resolvers for yaml."""

import copyreg
import math
from functools import cache
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from bench.config.schema import Config


def shipped(folder: str) -> Path:
    """Return the path of a folder that a wheel has inside the package and a checkout has next to it."""
    here = Path(__file__).resolve().parents[1]
    return next(path for path in (here / folder, here.parent / folder) if path.is_dir())


SWEEPS = shipped("sweeps")


@cache
def register() -> None:
    """Register the types, the sweeps and the resolvers with Hydra, which checks every yaml against the types.

    Only the first call of a process does anything.

    The resolver `${times:20,${rank}}` multiplies whole numbers. `${words:${task.labels}}` joins a list with spaces.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for path in SWEEPS.glob("*.yaml"):  # stored one by one: they are outside conf/, and only they may become choices
        store.store(group="sweeps", name=path.stem, node=OmegaConf.load(path), package="_global_")
    copyreg.pickle(ConfigStore, lambda _: "ConfigStore")  # Hydra copies its sources, and the store is a singleton
    OmegaConf.register_new_resolver("times", lambda *factors: math.prod(map(int, factors)), replace=True)
    OmegaConf.register_new_resolver("words", " ".join, replace=True)
