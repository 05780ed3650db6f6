"""The words that a setting may take, where they are few."""

from enum import Enum


class Weights(Enum):
    """Where a model's weights come from: published ones, or a seeded draw (cost is real, accuracy is not)."""

    pretrained = "pretrained"
    random = "random"


class Precision(Enum):
    """Arithmetic of the forward pass; `auto` is bf16 on an accelerator that has it, else fp32, and fp32 on a CPU."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Device(Enum):
    """`auto` takes the accelerator where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Metric(Enum):
    """How predictions are scored: the one list of metrics; `f1` is that of label 1.

    bench/tasks/metrics.py computes each of them, and bench/report/stats/bootstrap.py over resampled examples.
    """

    accuracy = "accuracy"
    f1 = "f1"
    macro_f1 = "macro_f1"
    matthews_correlation = "matthews_correlation"
    pearson = "pearson"
    spearman = "spearman"

    @property
    def of_numbers(self) -> bool:
        """Whether it is for tasks that predict a number."""
        return self in {Metric.pearson, Metric.spearman}

    @property
    def is_correlation(self) -> bool:
        """Whether it lies between -1 and 1; the others lie between 0 and 1."""
        return self.of_numbers or self is Metric.matthews_correlation


class Form(Enum):
    """How a task is put to the model.

    `head`: texts to a head that is new. Of multiple-choice questions, `letters`: the letter is the next token, compared
    among the options' letters; `options`: each option's likelihood per token; `generate`: the answer is written out and
    parsed; `classify`: a head over the options; `multiple_choice`: a head that gives one number to the question with
    each option, as BERT's authors did. Of texts, `mask`: a word for each label, compared in place of a mask.
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
        """Whether the task's rows are multiple-choice questions, put into words by a prompt."""
        return self not in {Form.head, Form.mask}

    @property
    def causal(self) -> bool:
        """Whether a causal language model goes on from what it was given."""
        return self in {Form.letters, Form.options, Form.generate}

    @property
    def speaks(self) -> bool:
        """Whether a language model answers with its own words: the task has no head of its own then."""
        return self.causal or self is Form.mask


class LossOn(Enum):
    """What a language model learns to predict: the answer's tokens alone, or the prompt's too."""

    answer = "answer"
    prompt = "prompt"


class Cost(Enum):
    """When costs are measured: each cell's before it trains, or only costs, all cells of the grid in turns."""

    first = "first"
    only = "only"


class Tune(Enum):
    """Which cells race for a learning rate: each, or the first rank and target of each method in a command."""

    each = "each"
    once = "once"


class OnOom(Enum):
    """What is done when memory runs out: half as many rows go through the model at once, or the outcome is recorded."""

    halve = "halve"
    record = "record"


class RankLimit(Enum):
    """What bounds a method's rank: the model's width, the positions that its inputs leave free, its layers, nothing."""

    width = "width"
    positions = "positions"
    layers = "layers"
    none = "none"


class Scale(Enum):
    """How LoRA's update is scaled: alpha / r with alpha = r or a fixed alpha, or a fixed alpha / sqrt(r)."""

    rank = "rank"
    fixed = "fixed"
    sqrt = "sqrt"


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
    """Who multiplies with frozen matrices on a CPU; `auto` is oneDNN on AMD's and torch on others."""

    auto = "auto"
    torch = "torch"
    onednn = "onednn"


class Attention(Enum):
    """Who computes the attention: our own, which trials can share, or one of transformers', for trials one by one."""

    own = "own"
    eager = "eager"
    sdpa = "sdpa"
    flash_attention_2 = "flash_attention_2"


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
