"""Compare the description of an architecture with a model of it, and name every wrong or missing part."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from bench.models.architectures import MLP, WEIGHT_TYPES, Architecture
from bench.models.load import empty_model
from bench.models.source import Source

PLACES = ("attention", "feed_forward")  # where adapters go
# First words of layer names that say which weight type the layer is, besides the weight types themselves.
WORDS = {"query": "q", "key": "k", "value": "v", "out": "o"}
# Input and output of a weight type, as fields of an entry. None: it depends on the number of heads.
SIZES = {"q": ("width", None), "k": ("width", None), "v": ("width", None), "o": (None, "width")}
SIZES |= {"gate": ("width", "inner"), "up": ("width", "inner"), "down": ("inner", "width")}


def described_wrongly(source: Source) -> list[str]:
    """List what the architecture's entry gets wrong about the source's model, or leaves out.

    The model is one block without weights that classifies two labels, which takes a few milliseconds.

    Args:
        source: The model whose architecture is checked.

    Returns:
        One text per mistake. Empty if the entry is right and complete.
    """
    model: Any = empty_model(source, 2)
    return [*_mistakes(source.architecture, model), *_masked_head(source)]


def check_described(source: Source) -> None:
    """Refuse a model that its architecture's entry does not describe.

    Args:
        source: The model whose architecture is checked.

    Raises:
        ValueError: The entry has mistakes. The message lists them.
    """
    if mistakes := described_wrongly(source):
        raise ValueError(
            f"the entry {source.model_type!r} of bench/models/architectures.py does not describe {source.label}: "
            f"{'; '.join(mistakes)}"
        )


def _mistakes(entry: Architecture, model: Any) -> Iterator[str]:
    yield from _sizes(entry, model.config)
    try:
        blocks = model.base_model.get_submodule(entry.blocks)
    except AttributeError:
        blocks = None
    if not isinstance(blocks, nn.ModuleList):
        lists = [name for name, module in model.base_model.named_modules() if isinstance(module, nn.ModuleList)]
        yield f"blocks={entry.blocks!r} is not a list of blocks (lists in the model: {', '.join(lists) or 'none'})"
        return
    parts = dict(blocks[0].named_modules())
    yield from _weights(entry, parts)
    yield from _shapes(entry, model.config, parts)
    yield from _biases(entry, model.config, parts)
    yield from _norms(entry, parts)
    yield from _adapters(entry, parts)
    if entry.reads_first and not hasattr(parts.get("attention.self"), "attention_head_size"):
        yield "reads_first=True, but the blocks have no attention.self of BERT's kind"
    is_causal = any(getattr(part, "is_causal", False) for part in parts.values())
    if is_causal is not entry.decoder:
        yield f"decoder={entry.decoder}, but a token attends to {'earlier tokens only' if is_causal else 'all tokens'}"
    yield from _head(entry, model)


def _sizes(entry: Architecture, config: Any) -> Iterator[str]:
    for name, standard in (("width", "hidden_size"), ("layers", "num_hidden_layers")):
        key = getattr(entry, name)
        if getattr(config, key, None) != getattr(config, standard, None):
            yield f"{name}={key!r} is not the configuration's {standard}"
    dropout_keys = {key for key in config.to_dict() if "drop" in key and not key.startswith("layer")}
    if missing := sorted(dropout_keys - set(entry.dropout)):
        yield f"dropout lacks {', '.join(missing)}"


def _weights(entry: Architecture, parts: dict[str, nn.Module]) -> Iterator[str]:
    linear = {name for name, part in parts.items() if isinstance(part, nn.Linear)}
    for kind, path in entry.weights.items():
        if kind not in WEIGHT_TYPES:
            yield f"weights[{kind!r}] is not a weight type (valid types: {', '.join(WEIGHT_TYPES)})"
        if path not in linear:
            yield f"weights[{kind!r}] is {path!r}, which is not a linear layer of a block"
    if missing := sorted(linear - set(entry.weights.values())):
        yield f"weights lacks {', '.join(missing)}"


def _shapes(entry: Architecture, config: Any, parts: dict[str, nn.Module]) -> Iterator[str]:
    """Name weight types whose sizes, or whose names, say that they are another type."""
    for kind, path in entry.weights.items():
        layer = parts.get(path)
        if not isinstance(layer, nn.Linear):
            continue
        for side, field in zip(("in_features", "out_features"), SIZES.get(kind, (None, None)), strict=True):
            if field is None:
                continue
            key = getattr(entry, field)
            size, expected = getattr(layer, side), getattr(config, key, None)
            if size != expected:
                yield f"weights[{kind!r}] is {path!r} with {side}={size}, but {field} is {key}={expected}"
        word = path.rpartition(".")[2].partition("_")[0]
        named = WORDS.get(word, word)
        both_known = {kind, named} <= set(WEIGHT_TYPES)
        if both_known and named != kind and (named in MLP) == (kind in MLP):
            yield f"weights[{kind!r}] is {path!r}, which looks like {named!r}"


def _biases(entry: Architecture, config: Any, parts: dict[str, nn.Module]) -> Iterator[str]:
    biased = [name for name, part in parts.items() if isinstance(part, nn.Linear) and part.bias is not None]
    configured = any(getattr(config, key, False) for key in ("attention_bias", "mlp_bias"))
    if entry.biases and not biased:
        yield "biases=True, but no linear layer of a block has one"
    if not entry.biases and biased and not configured:
        yield f"biases=False, but {', '.join(biased)} have one"


def _adapters(entry: Architecture, parts: dict[str, nn.Module]) -> Iterator[str]:
    for place in PLACES:
        if entry.adapters.get(place) not in parts:
            yield f"adapters[{place!r}] is {entry.adapters.get(place)!r}, which is not a module of a block"
    order = [name for name in parts if name in entry.adapters.values()]
    if order == [entry.adapters.get(place) for place in reversed(PLACES)]:
        yield "adapters has the places of attention and feed_forward the wrong way round"
    if entry.feed_forward not in parts:
        yield f"feed_forward={entry.feed_forward!r} is not a module of a block"
    elif not entry.weights.get("down", "").startswith(f"{entry.feed_forward}."):
        yield f"feed_forward={entry.feed_forward!r} does not contain weights['down']"


def _masked_head(source: Source) -> Iterator[str]:
    entry = source.architecture
    if entry.masked_head is None:
        return
    if entry.decoder:
        yield f"masked_head={entry.masked_head!r}, but a decoder has none"
        return
    try:
        empty_model(source, 2, speaks=True).get_submodule(entry.masked_head)
    except AttributeError:
        yield f"masked_head={entry.masked_head!r} is not a module of its masked language model"


def _norms(entry: Architecture, parts: dict[str, nn.Module]) -> Iterator[str]:
    norms = {name for name, part in parts.items() if "norm" in type(part).__name__.lower()}
    if missing := sorted(norms - set(entry.norms)):
        yield f"norms lacks {', '.join(missing)}"
    if surplus := sorted(set(entry.norms) - norms):
        yield f"norms has {', '.join(surplus)}, which is not a norm of a block"


def _head(entry: Architecture, model: nn.Module) -> Iterator[str]:
    backbone = getattr(model, "base_model_prefix", "")
    head = {name for name, part in model.named_children() if name != backbone and any(True for _ in part.parameters())}
    if head != set(entry.head):
        yield f"head is {', '.join(entry.head) or 'empty'}, but above the backbone are {', '.join(sorted(head))}"
