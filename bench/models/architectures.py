"""The description of each architecture: everything the code knows about how a kind of model is built.

A new architecture is one entry in ARCHITECTURES. Before anything is trained, `described_wrongly`
(bench/models/description.py) compares the entry with the model itself and lists what is wrong or missing.
"""

from dataclasses import dataclass, replace

WEIGHT_TYPES = (
    "q",
    "k",
    "v",
    "o",
    "gate",
    "up",
    "down",
)  # in the LoRA paper's terms and order; gate is a second up projection
MLP = ("gate", "up", "down")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How the models of one kind are built. Paths are arguments of `torch.nn.Module.get_submodule`.

    Attributes:
        blocks: Path from the backbone to the list of its transformer blocks.
        weights: Paths of a block's linear layers by weight type, in the order of WEIGHT_TYPES.
        norms: Paths of a block's layer norms.
        adapters: Path of the last module of each sublayer, before the residual sum. An adapter is put after it.
        feed_forward: Path of the module of a block that a parallel adapter runs next to.
        head: The modules above the backbone of a sequence classifier. They are new for every task.
        masked_head: The module above the backbone of a masked language model that maps to the vocabulary. Without one
            (None), task.form=mask is not possible.
        decoder: Whether a token attends only to earlier tokens, so that a text is read at its last token.
        dropout: The keys of config.json that hold a dropout probability.
        biases: Whether any linear layer of a block has a bias.
        reads_first: Whether the head reads only the first token and the attention has BERT's modules (`attention.self`
            with `query`, `key` and `value`, and `attention.output`). The last block is then computed at that token
            only. If unsure, False.
        width: The key of config.json with the width of the residual stream.
        inner: The key with the inner width of the feed-forward.
        layers: The key with the number of blocks.
        positions: The key with the number of positions.
        reserved_positions: How many of the positions no token can have.
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
    biases: bool
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
    biases=True,
    reads_first=True,
)
ROBERTA = replace(BERT, masked_head="lm_head", reserved_positions=2)  # positions are numbered from padding_idx + 1
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
    biases=False,
)
# Keyed by the model type in transformers.
ARCHITECTURES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "llama": LLAMA,
}


def architecture_of(model_type: str) -> Architecture:
    """Return the description of a type of model.

    Args:
        model_type: The architecture's name in transformers.

    Raises:
        ValueError: ARCHITECTURES has no entry for the type.
    """
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f"bench/models/architectures.py has no entry for a model of type {model_type!r}; choose one of type "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[model_type]
