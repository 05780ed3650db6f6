"""What the server does once, so that no worker that is forked from it has to.

Nothing here may compute with torch: a fork has no threads, and would wait for those that computed.
"""

import atexit
import gc
import os
from importlib import import_module

MODULES = ("bench.worker", "peft", "bench.tasks.reviews", "bench.tasks.glue", "transformers.models.bert.modeling_bert")


def preload() -> None:
    """Import what every cell needs, and let workers share the memory of it."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    gc.disable()
    for module in MODULES:
        import_module(module)
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("bert")  # for any model it compiles a thousand patterns, at the first call
    gc.freeze()  # a worker's collector would touch, and so copy, all that it shares with the server
    gc.enable()
    # What is registered last runs first: the libraries' own leave-taking, which nobody waits for, would take seconds.
    atexit.register(os._exit, 0)


preload()
