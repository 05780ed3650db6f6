"""Imported by the worker server before anything else: libraries that talk while they are imported keep still."""

import logging
import os

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of optional kernels on every CPU
