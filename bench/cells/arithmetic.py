"""Which arithmetic a cell computes in.

It follows from a fixed rule and not from a timing, so the command line knows it in advance.
"""

from bench.config.accelerator import gpu_usable, lacks_bf16
from bench.config.enums import Device, Precision
from bench.config.schema import Config


def precision_of(conf: Config) -> str:
    """Return the arithmetic of the forward pass, with `precision=auto` resolved.

    `auto` is bf16 on an accelerator that supports it, and fp32 on other accelerators and on every CPU. With an explicit
    `device=cuda`, a machine without a GPU, such as a login node, returns the same answer as the machine that computes.
    Before training, the worker compares the answer with what torch reports.

    Returns:
        "fp32" or "bf16".
    """
    if conf.quant.name == "bf16":  # a base stored in bf16 also computes in bf16
        return "bf16"
    if conf.precision is not Precision.auto:
        return conf.precision.name
    accelerated = conf.device is Device.cuda or (conf.device is Device.auto and gpu_usable())
    return "bf16" if accelerated and not lacks_bf16() else "fp32"
