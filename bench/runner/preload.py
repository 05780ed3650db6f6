"""Work that the fork server does once, so that the workers forked from it need not repeat it.

Nothing here may compute with torch. A fork does not inherit the threads that computed, and would wait for them forever.
Nothing may touch a GPU either. CUDA cannot be used in a process forked from one that has initialised it.
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
# These import bitsandbytes, which initialises CUDA if it finds a GPU. With a GPU, each worker imports them itself.
TOUCHING = ("bench.runner.worker", "peft")


def preloaded() -> tuple[str, ...]:
    """Return the modules that are already imported when a worker starts."""
    return MODULES if gpu_visible() else (*MODULES, *TOUCHING)


def preload() -> None:
    """Import what every cell needs, and let the workers share its memory."""
    spin_briefly(os.environ)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    gc.disable()
    for module in preloaded():
        import_module(module)
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("bert")  # the first call compiles a thousand patterns, for any model
    gc.freeze()  # otherwise a worker's collector would touch, and so copy, all memory shared with the server
    gc.enable()
    # Handlers run in reverse order, so this one skips those of the libraries, which take seconds and do nothing useful.
    atexit.register(os._exit, 0)


preload()
