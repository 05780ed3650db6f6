"""Which arithmetic a cell computes in. A rule, so that the command line knows it and no stopwatch decides it."""

from bench.config.accelerator import gpu_usable, lacks_bf16
from bench.config.enums import Device, Precision
from bench.config.schema import Config


def precision_of(conf: Config) -> str:
    """What `precision=auto` means here: bf16 on an accelerator that has it, fp32 otherwise, fp32 on every CPU.

    Where the device is named (`device=cuda`), a machine without one, such as a login node, gives the same answer as the
    machine that will compute. The worker compares the answer with what torch finds before anything is trained.

    Returns:
        fp32 or bf16: the arithmetic of the forward pass.
    """
    if conf.quant.name == "bf16":  # a base that is stored in bf16 computes in it
        return "bf16"
    if conf.precision is not Precision.auto:
        return conf.precision.name
    accelerated = conf.device is Device.cuda or (conf.device is Device.auto and gpu_usable())
    return "bf16" if accelerated and not lacks_bf16() else "fp32"
