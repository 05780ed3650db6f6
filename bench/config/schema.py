"""The types of the configuration, one dataclass per node. The values and the reasons for them are in `conf/`."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from bench.config import enums as choices
from bench.config.method_schema import MethodConf, OptimConf, QuantConf, ScaleConf, TargetConf


@dataclass
class ModelConf:
    """A model. One yaml of conf/model.

    Attributes:
        label: Its name in results and tables.
        name: A hub repository, a local folder, or `package:IMPORT_NAME/FOLDER` of an installed package.
        weights: Published or random weights.
        revision: The revision of a hub repository.
        pins: The revision or sha256 of each name.
        architecture: The model's configuration, for random weights without a download.
        tokenizer: The tokenizer for `architecture`.
        open_copy: A repository with the same weights, for users without access to the gated one.
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
    """A task. One yaml of conf/task.

    Attributes:
        name: As in `task=`.
        path: A folder of local files. It takes precedence over `repo`.
        files: The files of each part: train, report and others.
        optional: Parts of `files` that may be absent.
        repo: A data set on the hub.
        config: The configuration of that data set.
        revision: The revision of that data set.
        labels: The names of the labels; empty if the task predicts a number, null to read them from the data.
        metrics: Metrics of bench/tasks/metrics.py. The first one selects rates and checkpoints.
        form: How the task is presented to the model.
        loss_on: The tokens that a language model learns to predict.
        cloze: For the form `mask`: the template, with {text}, {mask} and, for pairs, {second}.
        words: For the form `mask`: one word per label.
        shots: Number of solved examples with every row, in training too.
        epochs: Passes over the training data in the standard protocol.
        batch: Rows per batch in the standard protocol.
        head_lr: Learning rate of the task's head, for every method except `head`, which races it.
        max_length: Length to which the standard protocol cuts texts, in tokens.
        train_rows: Number of training rows in the standard protocol; null: all.
        select_rows: Number of rows that are split off train to select with.
        load: The function that loads the task.
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
    """The prompt of a multiple-choice question. One yaml of conf/prompt.

    Attributes:
        name: As in `prompt=`.
        text: The prompt, with {question} and {options}.
        unseen: The prompt for the form `options`, in which the model does not see the options: with {question}.
        option: One line of the options, with {letter} and {option}.
        between: The separator between options.
        letters: The answer as a letter, with {letter}.
        unseen_answer: The answer for the form `options`, with {option}.
        written: The answer for the form `generate`, with {letter} and perhaps {option}.
        apart: The text after a solved example.
        reason: The text that makes the model reason before it answers.
        reason_tokens: Maximum length of that reasoning, in tokens.
        conclude: The text after the reasoning that asks for the answer.
        bos: Whether the prompt starts with the tokenizer's first token.
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
class ProtocolConf:
    """What every trial of a comparison has in common. One yaml of conf/protocol.

    Attributes:
        name: As in `protocol=`.
        steps: Updates of a full training. Takes precedence over `epochs`.
        epochs: Passes over the training data.
        train_rows: Number of training rows; null: all.
        batch: Rows per batch.
        tokens: Maximum tokens per batch, with padding. Takes precedence over `batch`.
        micro: Rows per forward pass, if a batch does not fit in memory; null: all.
        eval_batch: Rows per batch in evaluation.
        max_length: Maximum length of a row, in tokens.
        head_lr: Learning rate of the task's head.
        weight_decay: Weight decay of matrices.
        warmup_steps: Updates of warmup. Takes precedence over `warmup`.
        warmup: Warmup as a share of the steps.
        eval_steps: Updates between evaluations on select; null: an epoch.
        clip: Maximum norm of the gradient of all parameters.
        dropout: Dropout probability; null: the model's own.
        data_seed: Seed of the split of train and select.
        probe_steps: Number of steps that the cost probe measures.
        tune_seed: Seed of the race for the learning rate.
        candidates: Number of initial candidates of the race; null: no race.
        finalists: Number of candidates that train to the end.
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
    """Faster ways to the same numbers. They change only rounding, and are not part of a cell's identity."""

    linear: choices.LinearWay = MISSING
    last_layer: choices.LastLayer = MISSING
    compile: choices.Compile = MISSING
    attention: choices.Attention = MISSING


@dataclass
class TrackConf:
    """Where runs are logged in addition to the records."""

    mode: choices.TrackMode = MISSING
    project: str = MISSING
    entity: str | None = None


@dataclass
class Config:
    """The configuration of one cell and its trials. conf/config.yaml has the default of every setting.

    Attributes:
        model: The pretrained model.
        task: The data, its labels and metrics, and how a row is put to the model.
        prompt: The templates of multiple-choice questions.
        method: The fine-tuning method.
        target: The weight types that the method adapts, if it uses targets.
        scale: LoRA's alpha as a function of the rank, if the method uses it.
        quant: The precision of the frozen weights.
        optim: The optimizer.
        protocol: The budget, the schedule and the rule of the race.
        fast: Faster ways to the same numbers.
        track: Where runs are logged in addition to the records.
        rank: The method's capacity: LoRA's r, an adapter's width, a number of virtual tokens.
        match_params: A budget of trained parameters without the head, which chooses the rank; None for a given rank.
        lrs: "tuned", "all", "published" or a list of learning rates.
        tune: Whether every cell races for its rate, or only the first cell of each method.
        seeds: The seeds of the report's trials.
        precision: The dtype of the arithmetic.
        device: The device to train on.
        pack: How many trials of a cell train together: "auto" or a whole number.
        workers: How many cells train at once: "auto" or a whole number.
        checkpointing: Whether blocks compute their activations twice instead of keeping them.
        on_oom: What follows when memory runs out.
        cost: When the cost of a cell is measured.
        merge: Whether inference is also measured with the method merged into the weights.
        retain: A file of texts on which forgetting is measured; None for none.
        save: What is kept of each trial.
        force: Whether recorded trials are trained again.
        results_dir: The folder of the records.
        save_dir: The folder of what is kept.
        cache_dir: The folder of tokenised data.
    """

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
