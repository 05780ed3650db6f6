"""The options of a check: the device, models with random weights in their true widths, and cells on them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.cells.cell import Cell
from bench.config.compose import cells

BATCH, STEPS = 16, 8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LLAMA = (
    "vocab_size:30522,hidden_size:2048,num_hidden_layers:{layers},num_attention_heads:32,num_key_value_heads:8,"
    "head_dim:64,intermediate_size:8192,max_position_embeddings:2048,tie_word_embeddings:true"
)
SHORT_BERT = ("num_hidden_layers=2", "hidden_size=64", "num_attention_heads=2", "intermediate_size=128")
SHORT_LLAMA = (
    "vocab_size:30522,hidden_size:64,num_hidden_layers:2,num_attention_heads:2,num_key_value_heads:1,head_dim:32,"
    "intermediate_size:128,max_position_embeddings:512,tie_word_embeddings:true"
)


@dataclass(frozen=True)
class Asked:
    """The options of a check.

    short: run everything once and small. tokenizer: a folder, or package:NAME/FOLDER. model: a folder with real weights
    of MiniLM; empty if there is none.
    """

    device: str
    short: bool
    tokenizer: str
    model: str = ""

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def on_card(self) -> bool:
        return self.device == "cuda"

    def shape(self, name: str) -> list[str]:
        """Return settings of a random model: bert (BERT-base) or llama-N (Llama-3.2-1B, N layers and fewer words)."""
        kind, _, layers = name.partition("-")
        if kind == "bert":
            small = [f"model.architecture.{size}" for size in SHORT_BERT] if self.short else []
            return ["model=bert-base", "model.weights=random", f"model.tokenizer={self.tokenizer}", *small]
        shape = SHORT_LLAMA if self.short else LLAMA.format(layers=layers)
        return [
            *(f"model.label={name}", f"model.name={name}", f"++model.pins={{{name}:random}}", "model.weights=random"),
            *(f"model.tokenizer={self.tokenizer}", f"++model.architecture={{model_type:llama,{shape}}}"),
        ]

    def cell(self, shape: str, method: str, folder: Path, *words: str) -> Cell:
        """Return a cell on the embedded reviews: STEPS updates of BATCH rows, one rate and seed unless words differ."""
        common = [*self.shape(shape), f"method={method}", "rank=8", "track=off", "precision=fp32", "lrs=[1e-3]"]
        common += ["seeds=[0]", "protocol.epochs=1", f"protocol.train_rows={BATCH * STEPS}", f"cache_dir={folder}"]
        (cell,) = cells([*common, f"protocol.batch={BATCH}", *words], multirun=False)
        return cell
