"""The words that a setting may take, where they are few."""

from enum import Enum


class Weights(Enum):
    """Where a model's weights come from: published ones, or a seeded draw (cost is real, accuracy is not)."""

    pretrained = "pretrained"
    random = "random"


class Precision(Enum):
    """Arithmetic of the forward pass; `auto` takes bf16 where the device computes it fast, else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Device(Enum):
    """`auto` takes the accelerator where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class RankLimit(Enum):
    """What bounds a method's rank: the model's width, the positions that its inputs leave free, its layers."""

    width = "width"
    positions = "positions"
    layers = "layers"


class ComputeType(Enum):
    """Arithmetic on a quantised base."""

    fp32 = "fp32"
    bf16 = "bf16"


class Save(Enum):
    """What is kept of a trained trial: nothing, its adapter, the whole model with the adapter merged into it."""

    none = "none"
    adapter = "adapter"
    merged = "merged"


class LinearWay(Enum):
    """Who multiplies with frozen matrices on a CPU; `auto` takes whichever is faster here."""

    auto = "auto"
    torch = "torch"
    onednn = "onednn"


class LastLayer(Enum):
    """Where the last block is computed: at the positions that are read, where that is known, or at all."""

    read = "read"
    all = "all"


class Compile(Enum):
    """How a trial's blocks are compiled: not at all, by torch.compile, or into CUDA graphs besides."""

    none = "none"
    default = "default"
    cudagraphs = "cudagraphs"


class TrackMode(Enum):
    """`auto` is online when a W&B key is configured, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    off = "off"
