"""The types of the configuration, a dataclass per node. The values live in `conf/`, the reasons beside them."""

import copyreg
import math
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from bench.choices import (
    Compile,
    ComputeType,
    Device,
    LastLayer,
    LinearWay,
    Precision,
    RankLimit,
    Save,
    TrackMode,
    Weights,
)


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

    What it is: `rank_is` says what the rank counts, `target` lists the weight types that the method's own paper adapts
    (for `target=default`).
    What it fits: the rank must be a multiple of `rank_step`, and `rank_limit` says what bounds it; `models` are
    the architectures (empty: all), `quant` the quantised bases, `merges` the bases
    (`none`: full precision) that it can be merged into, `needs_cuda` the device; `checkpoints` says whether its blocks
    may be run twice, as checkpointing does.
    What it does: `attach` changes the model, `hooks` is what happens besides the forward pass, `lr_ratio` multiplies
    the learning rate of parameters whose name holds the key, `template` wraps the text in words of its own.
    """

    name: str = MISSING
    family: str = MISSING
    paper: str = MISSING
    uses: list[str] = MISSING
    rank_is: str | None = None
    rank_limit: RankLimit = RankLimit.width
    rank_step: int = 1
    target: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    quant: list[str] = field(default_factory=list)
    needs_cuda: bool = False
    checkpoints: bool = True
    merges: list[str] = field(default_factory=list)
    template: str | None = None
    lr: float = MISSING
    lr_grid: list[float] = MISSING
    lr_source: str = MISSING
    lr_ratio: dict[str, float] = field(default_factory=dict)
    hooks: Any = None
    attach: Any = MISSING


@dataclass
class QuantConf:
    """How the frozen base is stored; `compute` is the arithmetic on it (null: the cell's own precision)."""

    name: str = MISSING
    double: bool = False
    compute: ComputeType | None = None


@dataclass
class OptimConf:
    """`build` makes the optimizer from groups of parameters and `lr=`."""

    name: str = MISSING
    build: Any = MISSING


@dataclass
class TargetConf:
    """`parts` are weight types (q, k, v, o, up, down); null leaves the choice to the method."""

    parts: list[str] | None = None


@dataclass
class ProtocolConf:
    """What every trial of a comparison has in common. `tokens`, a budget with padding, goes before `batch`, in rows."""

    name: str = MISSING
    epochs: int = MISSING
    train_rows: int | None = None
    batch: int = MISSING
    tokens: int | None = None
    eval_batch: int = MISSING
    max_length: int = MISSING
    weight_decay: float = MISSING
    warmup: float = MISSING
    clip: float = MISSING
    dropout: float | None = None
    data_seed: int = MISSING
    probe_steps: int = MISSING


@dataclass
class FastConf:
    """Faster ways to the same numbers: they change no result beyond rounding, and are no part of a cell's identity."""

    linear: LinearWay = MISSING
    last_layer: LastLayer = MISSING
    compile: Compile = MISSING


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
    quant: QuantConf = field(default_factory=QuantConf)
    optim: OptimConf = field(default_factory=OptimConf)
    protocol: ProtocolConf = field(default_factory=ProtocolConf)
    fast: FastConf = field(default_factory=FastConf)
    track: TrackConf = field(default_factory=TrackConf)
    rank: int = MISSING
    lrs: list[float] = MISSING
    seeds: list[int] = MISSING
    precision: Precision = MISSING
    device: Device = MISSING
    pack: Any = MISSING
    checkpointing: bool = MISSING
    merge: bool = MISSING
    save: Save = MISSING
    force: bool = MISSING
    results_dir: str = MISSING
    save_dir: str = MISSING
    cache_dir: str = MISSING


def register() -> None:
    """Make the types known to Hydra, which checks every yaml against them while composing, and two words of yaml.

    `${times:20,${rank}}` is a whole number; `${words:${task.labels}}` joins a list with spaces.
    """
    ConfigStore.instance().store(name="schema", node=Config)
    copyreg.pickle(ConfigStore, lambda _: "ConfigStore")  # Hydra copies what it looks in, and of this there is one
    OmegaConf.register_new_resolver("times", lambda *factors: math.prod(map(int, factors)), replace=True)
    OmegaConf.register_new_resolver("words", " ".join, replace=True)
