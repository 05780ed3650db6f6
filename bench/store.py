"""What Hydra must know before it composes: the types of the configuration, and two words of yaml."""

import copyreg
import math

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from bench.schema import Config


def register() -> None:
    """Make the types known to Hydra, which checks every yaml against them while composing.

    `${times:20,${rank}}` is a whole number; `${words:${task.labels}}` joins a list with spaces.
    """
    ConfigStore.instance().store(name="schema", node=Config)
    copyreg.pickle(ConfigStore, lambda _: "ConfigStore")  # Hydra copies what it looks in, and of this there is one
    OmegaConf.register_new_resolver("times", lambda *factors: math.prod(map(int, factors)), replace=True)
    OmegaConf.register_new_resolver("words", " ".join, replace=True)
