"""The one description of each architecture: all that the code knows about how a kind of model is built.

A new architecture is one entry in ARCHITECTURES. Before anything is trained, `described_wrongly`
(bench/models/description.py) holds the entry against the model itself and names what is wrong or missing.
"""

from dataclasses import dataclass, replace

WEIGHT_TYPES = ("q", "k", "v", "o", "gate", "up", "down")  # the LoRA paper's words and order; gate: a second way up
MLP = ("gate", "up", "down")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How the models of one kind are built. Paths are those of `torch.nn.Module.get_submodule`.

    Attributes:
        blocks: From the backbone to the list of its transformer blocks.
        weights: The linear layers of a block by weight type, in the order of WEIGHT_TYPES.
        norms: The layer norms of a block.
        adapters: Where a sublayer ends, before its residual sum: an adapter goes after this module of a block.
        feed_forward: The module of a block that a parallel adapter runs beside.
        head: The modules above the backbone when it classifies sequences; new for every task.
        masked_head: The module above the backbone when it predicts masked words; None: it does not.
        decoder: Whether a token sees only those before it, so that a text is read at its last token.
        reads_first: Whether the head reads the first token and no other, through BERT's own attention classes.
        dropout: The keys of config.json that hold a probability of dropout.
        width: The key of config.json with the width of the residual stream.
        inner: The key with the width of the feed-forward.
        layers: The key with the number of blocks.
        positions: The key with the number of positions.
        reserved_positions: Of them, those that no token gets.
    """

    blocks: str
    weights: dict[str, str]
    norms: tuple[str, ...]
    adapters: dict[str, str]
    feed_forward: str
    head: tuple[str, ...]
    masked_head: str | None
    decoder: bool
    dropout: tuple[str, ...]
    reads_first: bool = False
    width: str = "hidden_size"
    inner: str = "intermediate_size"
    layers: str = "num_hidden_layers"
    positions: str = "max_position_embeddings"
    reserved_positions: int = 0


BERT = Architecture(
    blocks="encoder.layer",
    weights={
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    },
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    adapters={"attention": "attention.output.dropout", "feed_forward": "output.dropout"},
    feed_forward="output",
    head=("classifier",),
    masked_head="cls",
    decoder=False,
    dropout=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    reads_first=True,
)
ROBERTA = replace(BERT, masked_head="lm_head", reserved_positions=2)  # its numbering begins after the padding's number
LLAMA = Architecture(
    blocks="layers",
    weights={
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    },
    norms=("input_layernorm", "post_attention_layernorm"),
    adapters={"attention": "self_attn.o_proj", "feed_forward": "mlp.down_proj"},
    feed_forward="mlp",
    head=("score",),
    masked_head=None,
    decoder=True,
    dropout=("attention_dropout",),
)
# By what transformers calls a model's type.
ARCHITECTURES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "llama": LLAMA,
}


def architecture_of(model_type: str) -> Architecture:
    """The description of a type of model. ValueError: there is none."""
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f"bench/models/architectures.py has no entry for a model of type {model_type!r}; choose one of type "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]
