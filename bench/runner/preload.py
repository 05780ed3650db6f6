"""What the server does once, so that no worker that is forked from it has to.

Nothing here may compute with torch: a fork has no threads, and would wait for those that computed. Nor may anything
touch a GPU: CUDA cannot be used in a process that is forked from one that has initialised it.
"""

import atexit
import gc
import os
from importlib import import_module

from bench.config.accelerator import gpu_visible
from bench.runner.openmp import spin_briefly

MODULES = (
    "transformers.models.bert.modeling_bert",
    "bench.runner.build",
    "bench.tasks.metrics",
    "bench.tasks.loaders.reviews",
    "bench.tasks.loaders.glue",
)
# These import bitsandbytes, which initialises CUDA where it finds a GPU. There each worker imports them itself.
TOUCHING = ("bench.runner.worker", "peft")


def preloaded() -> tuple[str, ...]:
    """The modules that workers find imported."""
    return MODULES if gpu_visible() else (*MODULES, *TOUCHING)


def preload() -> None:
    """Import what every cell needs, and let workers share the memory of it."""
    spin_briefly(os.environ)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    gc.disable()
    for module in preloaded():
        import_module(module)
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("bert")  # for any model it compiles a thousand patterns, at the first call
    gc.freeze()  # a worker's collector would touch, and so copy, all that it shares with the server
    gc.enable()
    # What is registered last runs first: the libraries' own leave-taking, which nobody waits for, would take seconds.
    atexit.register(os._exit, 0)


preload()
