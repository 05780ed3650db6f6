"""The settings that accept only a few fixed words."""

from enum import Enum


class Weights(Enum):
    """Where a model's weights come from: published, or drawn with a seed (costs are real then, accuracy is not)."""

    pretrained = "pretrained"
    random = "random"


class Precision(Enum):
    """Arithmetic of the forward pass. `auto` is bf16 on an accelerator that supports it, and fp32 otherwise."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Device(Enum):
    """Where the model runs. `auto` uses the accelerator if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Metric(Enum):
    """The metrics. `f1` is the F1 score of label 1.

    This is the only list of them. bench/tasks/metrics.py computes each metric, and bench/report/stats/bootstrap.py
    computes it over resampled examples.
    """

    accuracy = "accuracy"
    f1 = "f1"
    macro_f1 = "macro_f1"
    matthews_correlation = "matthews_correlation"
    pearson = "pearson"
    spearman = "spearman"

    @property
    def of_numbers(self) -> bool:
        """Whether the metric is for tasks that predict a number."""
        return self in {Metric.pearson, Metric.spearman}

    @property
    def is_correlation(self) -> bool:
        """Whether the metric is between -1 and 1. The others are between 0 and 1."""
        return self.of_numbers or self is Metric.matthews_correlation


class Form(Enum):
    """How a task is presented to the model.

    Attributes:
        head: A new head classifies texts, or predicts a number for them.
        letters: Multiple choice: compare the options' letters as the next token.
        options: Multiple choice: compare the likelihood per token of the options.
        generate: Multiple choice: generate the answer and parse it.
        classify: Multiple choice: a head over the options.
        multiple_choice: Multiple choice: a head scores the question with each option, as BERT's authors did.
        mask: Texts: compare one word per label at the position of a mask.
    """

    head = "head"
    letters = "letters"
    options = "options"
    generate = "generate"
    classify = "classify"
    multiple_choice = "multiple_choice"
    mask = "mask"

    @property
    def asks(self) -> bool:
        """Whether the task's rows are multiple-choice questions, which need a prompt."""
        return self not in {Form.head, Form.mask}

    @property
    def causal(self) -> bool:
        """Whether a causal language model continues the prompt."""
        return self in {Form.letters, Form.options, Form.generate}

    @property
    def speaks(self) -> bool:
        """Whether a language model answers with its own vocabulary. The task then has no head."""
        return self.causal or self is Form.mask


class LossOn(Enum):
    """Which tokens a language model learns to predict: those of the answer only, or those of the prompt too."""

    answer = "answer"
    prompt = "prompt"


class Cost(Enum):
    """When costs are measured.

    Attributes:
        first: Measure the cost of each cell before it trains.
        only: Train nothing, and measure all cells of the grid in alternation.
    """

    first = "first"
    only = "only"


class Tune(Enum):
    """Which cells race for a learning rate: each cell, or the first rank and target of each method in a command."""

    each = "each"
    once = "once"


class OnOom(Enum):
    """What to do when memory runs out: halve the rows per forward pass, or record the outcome."""

    halve = "halve"
    record = "record"


class RankLimit(Enum):
    """What bounds a method's rank.

    Attributes:
        width: The width of the model.
        positions: The positions that the inputs leave free.
        layers: The number of layers.
        none: Nothing.
    """

    width = "width"
    positions = "positions"
    layers = "layers"
    none = "none"


class Scale(Enum):
    """How LoRA's update is scaled.

    Attributes:
        rank: alpha / r with alpha = r.
        fixed: alpha / r with a fixed alpha.
        sqrt: alpha / sqrt(r) with a fixed alpha.
    """

    rank = "rank"
    fixed = "fixed"
    sqrt = "sqrt"


class ComputeType(Enum):
    """Arithmetic on a quantised base."""

    fp32 = "fp32"
    bf16 = "bf16"


class Save(Enum):
    """What is saved of a trained trial: nothing, its adapter, or the whole model with the adapter merged into it."""

    none = "none"
    adapter = "adapter"
    merged = "merged"


class LinearWay(Enum):
    """The library that multiplies with frozen matrices on a CPU. `auto` is oneDNN on AMD CPUs and torch on others."""

    auto = "auto"
    torch = "torch"
    onednn = "onednn"


class Attention(Enum):
    """The implementation of attention.

    Trials that train together need our own. The others are those of transformers, for trials that train alone.
    """

    own = "own"
    eager = "eager"
    sdpa = "sdpa"
    flash_attention_2 = "flash_attention_2"


class LastLayer(Enum):
    """Where the last block is computed: only at the positions read (if they are known), or at every position."""

    read = "read"
    all = "all"


class Compile(Enum):
    """How a trial's blocks are compiled: not at all, by torch.compile, or by torch.compile with CUDA graphs."""

    none = "none"
    default = "default"
    cudagraphs = "cudagraphs"


class TrackMode(Enum):
    """How runs are logged to W&B. `auto` is online if a W&B key is configured, and offline otherwise."""

    auto = "auto"
    online = "online"
    offline = "offline"
    off = "off"
