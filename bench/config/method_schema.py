"""The types of the configuration nodes that make up a method: the method, its target, scale, base and optimizer."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bench.config import enums as choices


@dataclass
class MethodConf:
    """A method: what it is, what it fits and what it does. One yaml of conf/method.

    Attributes:
        name: As in `method=`.
        family: The group in which README's list and the figures show it.
        paper: Authors, year and arXiv number.
        uses: The axes that it uses: any of rank, target, scale.
        rank_is: What the rank counts; null if it has no rank.
        rank_limit: What bounds the rank.
        rank_step: The rank must be a multiple of this number.
        target: The weight types that its paper adapts, for `target=default`.
        models: The architectures that it supports; empty: all.
        needs_biases: Whether it supports only architectures whose linear layers have biases.
        quant: The quantised bases that it supports.
        needs_cuda: Whether it needs a CUDA device.
        checkpoints: Whether its blocks may run twice, as in activation checkpointing.
        merges_into: The bases into which it can be merged; `full` is a base in full precision.
        template: Its own template around a text, with {text}.
        trains: Whether it trains anything. If not, it has no learning rates.
        shots: Number of solved examples with each row, drawn with the trial's seed.
        reasons: Whether the model reasons before it answers.
        lr: The published learning rate.
        lr_source: Where that rate was published.
        lr_ratio: Factors for the rates of parameters below the head, by a part of the parameter's name.
        head_at_lr: Whether the head trains at the trial's rate instead of `protocol.head_lr`.
        hooks: The class of its hooks: what it does besides the forward pass.
        attach: The function that changes the model.
    """

    name: str = MISSING
    family: str = MISSING
    paper: str = MISSING
    uses: list[str] = MISSING
    rank_is: str | None = None
    rank_limit: choices.RankLimit = choices.RankLimit.width
    rank_step: int = 1
    target: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    needs_biases: bool = False
    quant: list[str] = field(default_factory=list)
    needs_cuda: bool = False
    checkpoints: bool = True
    merges_into: list[str] = field(default_factory=list)
    template: str | None = None
    trains: bool = True
    shots: int = 0
    reasons: bool = False
    lr: float | None = MISSING
    lr_source: str = MISSING
    lr_ratio: dict[str, float] = field(default_factory=dict)
    head_at_lr: bool = False
    hooks: Any = None
    attach: Any = MISSING


@dataclass
class ScaleConf:
    """The policy that scales LoRA's update by `alpha`, divided by r or, with `root`, by sqrt(r)."""

    name: choices.Scale = MISSING
    alpha: int = MISSING
    root: bool = MISSING


@dataclass
class QuantConf:
    """How the frozen base is stored. `compute` is the arithmetic on it (null: the cell's own precision)."""

    name: str = MISSING
    double: bool = False
    compute: choices.ComputeType | None = None


@dataclass
class OptimConf:
    """An optimizer. `build` creates it from groups of parameters and `lr=`."""

    name: str = MISSING
    build: Any = MISSING


@dataclass
class TargetConf:
    """The weights to adapt. `parts` are weight types (q, k, v, o, up, down); null leaves the choice to the method."""

    parts: list[str] | None = None
