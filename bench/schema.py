"""The types of the configuration, a dataclass per node. The values live in `conf/`, the reasons beside them."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


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


class TrackMode(Enum):
    """`auto` is online when a W&B key is configured, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    off = "off"


@dataclass
class ModelConf:
    """`name` is a hub repository, a local folder, or `package:IMPORT_NAME/FOLDER` of an installed package."""

    label: str = MISSING
    name: str = MISSING
    weights: Weights = Weights.pretrained
    revision: str | None = None
    pins: dict[str, str] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None


@dataclass
class TaskConf:
    """`path` (a folder of local files) goes before `repo` (a data set on the hub)."""

    name: str = MISSING
    path: str | None = None
    files: dict[str, list[str]] = field(default_factory=dict)
    repo: str | None = None
    config: str | None = None
    revision: str | None = None
    labels: list[str] = MISSING
    epochs: int = MISSING
    batch: int = MISSING
    train_rows: int | None = None
    select_rows: int = MISSING
    load: Any = MISSING


@dataclass
class MethodConf:
    """`uses` names the axes that mean something for the method: any of rank, target.

    `target` lists the weight types that the method's own paper adapts, for `target=default`.
    """

    name: str = MISSING
    family: str = MISSING
    paper: str = MISSING
    uses: list[str] = MISSING
    target: list[str] = field(default_factory=list)
    lr: float = MISSING
    lr_grid: list[float] = MISSING
    lr_source: str = MISSING
    attach: Any = MISSING


@dataclass
class TargetConf:
    """`parts` are weight types (q, k, v, o, up, down); null leaves the choice to the method."""

    parts: list[str] | None = None


@dataclass
class ProtocolConf:
    """What every trial of a comparison has in common."""

    name: str = MISSING
    epochs: int = MISSING
    train_rows: int | None = None
    batch: int = MISSING
    eval_batch: int = MISSING
    max_length: int = MISSING
    weight_decay: float = MISSING
    warmup: float = MISSING
    clip: float = MISSING
    dropout: float | None = None
    data_seed: int = MISSING
    probe_steps: int = MISSING


@dataclass
class TrackConf:
    """Where the runs are shown, beside the records."""

    mode: TrackMode = MISSING
    project: str = MISSING
    entity: str | None = None


@dataclass
class Config:
    """One cell and the trials to run of it."""

    model: ModelConf = field(default_factory=ModelConf)
    task: TaskConf = field(default_factory=TaskConf)
    method: MethodConf = field(default_factory=MethodConf)
    target: TargetConf = field(default_factory=TargetConf)
    protocol: ProtocolConf = field(default_factory=ProtocolConf)
    track: TrackConf = field(default_factory=TrackConf)
    rank: int = MISSING
    lrs: list[float] = MISSING
    seeds: list[int] = MISSING
    precision: Precision = MISSING
    device: Device = MISSING
    force: bool = MISSING
    results_dir: str = MISSING
    cache_dir: str = MISSING


def register() -> None:
    """Make the types known to Hydra, which checks every yaml against them while composing."""
    ConfigStore.instance().store(name="schema", node=Config)
