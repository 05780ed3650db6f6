"""The types of the configuration, a dataclass per node. The values live in `conf/`, the reasons beside them."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bench.config import enums as choices


@dataclass
class ModelConf:
    """`name` is a hub repository, a local folder, or `package:IMPORT_NAME/FOLDER` of an installed package.

    open_copy: a repository with the same weights, for users without access to the gated one.
    """

    label: str = MISSING
    name: str = MISSING
    weights: choices.Weights = choices.Weights.pretrained
    revision: str | None = None
    pins: dict[str, str] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    open_copy: str | None = None


@dataclass
class TaskConf:
    """`path` (a folder of local files) goes before `repo` (a data set on the hub).

    labels: their names; empty where a number is predicted, null where they are read from the data. metrics: of
    bench/tasks/metrics.py; the first one chooses. form, loss_on: how the task is put to the model. cloze, words: for
    the form `mask`, what a text is put into, with {text}, {mask} and (of pairs) {second}, and a word for each label.
    shots: solved examples beside every row, in training too. head_lr: the learning rate of the task's head, for every
    method but `head`, which races it.
    optional: parts of `files` that may be absent. max_length: what the standard protocol cuts texts to, in tokens.
    """

    name: str = MISSING
    path: str | None = None
    files: dict[str, list[str]] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)
    repo: str | None = None
    config: str | None = None
    revision: str | None = None
    labels: list[str] | None = MISSING
    metrics: list[choices.Metric] = field(default_factory=lambda: [choices.Metric.accuracy])
    form: choices.Form = choices.Form.head
    loss_on: choices.LossOn = choices.LossOn.answer
    cloze: str | None = None
    words: list[str] = field(default_factory=list)
    shots: int = 0
    epochs: int = MISSING
    batch: int = MISSING
    head_lr: float = 1e-3
    max_length: int = 128
    train_rows: int | None = None
    select_rows: int = MISSING
    load: Any = MISSING


@dataclass
class PromptConf:
    """Words around a multiple-choice question.

    text: holds {question} and {options}; unseen: the same for the form `options`, where the model does not see them.
    option: a line of the options, of {letter} and {option}; between: what stands between them. Then the answer:
    letters, unseen_answer, and written, of {letter} and {option}, for the form `generate`. apart: what stands after a
    solved example. reason: what makes the model think before it answers, in so many tokens; conclude: what makes it
    come to the answer. bos: whether the tokenizer's first token goes before the prompt.
    """

    name: str = MISSING
    text: str = MISSING
    unseen: str = MISSING
    option: str = MISSING
    between: str = MISSING
    letters: str = MISSING
    unseen_answer: str = MISSING
    written: str = MISSING
    apart: str = MISSING
    reason: str = MISSING
    reason_tokens: int = MISSING
    conclude: str = MISSING
    bos: bool = MISSING


@dataclass
class MethodConf:
    """A method: what it is, what it fits and what it does. One yaml of conf/method.

    Attributes:
        name: As in `method=`.
        family: What it is shown with in README's list and in figures.
        paper: Authors, year and arXiv number.
        uses: The axes that mean something for it: any of rank, target, scale.
        rank_is: What the rank counts; null where there is none.
        rank_limit: What bounds the rank.
        rank_step: The rank must be a multiple of it.
        target: The weight types that its own paper adapts, for `target=default`.
        models: The architectures that it fits; empty: all.
        quant: The quantised bases that it fits.
        needs_cuda: Whether it needs a CUDA device.
        checkpoints: Whether its blocks may be run twice, as checkpointing does.
        merges_into: The bases that it can be merged into; `full` is one in full precision.
        template: Words of its own around a text, with {text}.
        trains: Whether it trains anything; where it does not, it has no rates.
        shots: Solved examples beside each row, drawn by the trial's seed.
        reasons: Whether the model thinks before it answers.
        lr: The published learning rate.
        lr_source: Where that comes from.
        lr_ratio: Multiplies the rate of parameters below the head whose name holds the key.
        head_at_lr: Whether the head trains at the trial's rate in place of `protocol.head_lr`.
        hooks: What happens beside the forward pass.
        attach: What changes the model.
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
    """The policy that scales LoRA's update; root: divides alpha by sqrt(r) in place of r."""

    name: choices.Scale = MISSING
    alpha: int = MISSING
    root: bool = MISSING


@dataclass
class QuantConf:
    """How the frozen base is stored; `compute` is the arithmetic on it (null: the cell's own precision)."""

    name: str = MISSING
    double: bool = False
    compute: choices.ComputeType | None = None


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
    """What every trial of a comparison has in common.

    `steps`, updates of a whole training, goes before `epochs`; `tokens`, a budget with padding, before `batch`, in
    rows; `warmup_steps` before `warmup`, a share of the steps. eval_steps: updates from one judgement of select to the
    next; null: an epoch. micro: rows that go through the model at once, where a batch is more than memory holds; null:
    all. tune_seed, candidates, finalists: of the race that chooses the learning rate; without candidates there is none.
    """

    name: str = MISSING
    steps: int | None = None
    epochs: int = MISSING
    train_rows: int | None = None
    batch: int = MISSING
    tokens: int | None = None
    micro: int | None = None
    eval_batch: int = MISSING
    max_length: int = MISSING
    head_lr: float = MISSING
    weight_decay: float = MISSING
    warmup_steps: int | None = None
    warmup: float = MISSING
    eval_steps: int | None = None
    clip: float = MISSING
    dropout: float | None = None
    data_seed: int = MISSING
    probe_steps: int = MISSING
    tune_seed: int = MISSING
    candidates: int | None = MISSING
    finalists: int = MISSING


@dataclass
class FastConf:
    """Faster ways to the same numbers: they change no result beyond rounding, and are no part of a cell's identity."""

    linear: choices.LinearWay = MISSING
    last_layer: choices.LastLayer = MISSING
    compile: choices.Compile = MISSING
    attention: choices.Attention = MISSING


@dataclass
class TrackConf:
    """Where the runs are shown, beside the records."""

    mode: choices.TrackMode = MISSING
    project: str = MISSING
    entity: str | None = None


@dataclass
class Config:
    """One cell and the trials to run of it. lrs: tuned, all, published, or a list. workers: auto or a whole number."""

    model: ModelConf = field(default_factory=ModelConf)
    task: TaskConf = field(default_factory=TaskConf)
    prompt: PromptConf = field(default_factory=PromptConf)
    method: MethodConf = field(default_factory=MethodConf)
    target: TargetConf = field(default_factory=TargetConf)
    scale: ScaleConf = field(default_factory=ScaleConf)
    quant: QuantConf = field(default_factory=QuantConf)
    optim: OptimConf = field(default_factory=OptimConf)
    protocol: ProtocolConf = field(default_factory=ProtocolConf)
    fast: FastConf = field(default_factory=FastConf)
    track: TrackConf = field(default_factory=TrackConf)
    rank: int = MISSING
    match_params: int | None = None
    lrs: Any = MISSING
    tune: choices.Tune = MISSING
    seeds: list[int] = MISSING
    precision: choices.Precision = MISSING
    device: choices.Device = MISSING
    pack: Any = MISSING
    workers: Any = MISSING
    checkpointing: bool = MISSING
    on_oom: choices.OnOom = MISSING
    cost: choices.Cost = MISSING
    merge: bool = MISSING
    retain: str | None = None
    save: choices.Save = MISSING
    force: bool = MISSING
    results_dir: str = MISSING
    save_dir: str = MISSING
    cache_dir: str = MISSING
