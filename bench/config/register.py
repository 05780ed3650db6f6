"""What Hydra must know before it composes: the types of the configuration, the sweeps, and two words of yaml."""

import copyreg
import math
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from bench.config.schema import Config


def shipped(folder: str) -> Path:
    """A folder that a wheel holds inside the package, and a checkout beside it."""
    here = Path(__file__).resolve().parents[1]
    return next(path for path in (here / folder, here.parent / folder) if path.is_dir())


SWEEPS = shipped("sweeps")


def register() -> None:
    """Make the types known to Hydra, which checks every yaml against them while composing, and the sweeps.

    `${times:20,${rank}}` is a whole number; `${words:${task.labels}}` joins a list with spaces.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for path in SWEEPS.glob("*.yaml"):  # they lie outside of conf, and nothing else beside them may become a choice
        store.store(group="sweeps", name=path.stem, node=OmegaConf.load(path), package="_global_")
    copyreg.pickle(ConfigStore, lambda _: "ConfigStore")  # Hydra copies what it looks in, and of this there is one
    OmegaConf.register_new_resolver("times", lambda *factors: math.prod(map(int, factors)), replace=True)
    OmegaConf.register_new_resolver("words", " ".join, replace=True)
