"""The description of an architecture held against a model of it: a wrong or a missing part is named."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from bench.models.architectures import WEIGHT_TYPES, Architecture
from bench.models.load import empty_model
from bench.models.source import Source

PLACES = ("attention", "feed_forward")  # of adapters


def described_wrongly(source: Source) -> list[str]:
    """What the architecture's entry says wrongly of the source's model, or does not say; empty: it is whole.

    One block without weights is enough, classifying two labels: it takes some milliseconds.
    """
    model: Any = empty_model(source, 2)
    return list(_wrong(source.architecture, model))


def check_described(source: Source) -> None:
    """Refuse a model that its architecture's entry does not describe. ValueError: what is wrong with the entry."""
    if wrong := described_wrongly(source):
        raise ValueError(
            f"the entry {source.model_type!r} of bench/models/architectures.py does not describe {source.label}: "
            f"{'; '.join(wrong)}"
        )


def _wrong(entry: Architecture, model: Any) -> Iterator[str]:
    yield from _sizes(entry, model.config)
    try:
        listed = model.base_model.get_submodule(entry.blocks)
    except AttributeError:
        listed = None
    if not isinstance(listed, nn.ModuleList):
        lists = [name for name, part in model.base_model.named_modules() if isinstance(part, nn.ModuleList)]
        yield f"blocks={entry.blocks!r} is no list of blocks (there is {', '.join(lists) or 'none'})"
        return
    parts = dict(listed[0].named_modules())
    yield from _weights(entry, parts)
    yield from _norms(entry, parts)
    for place in PLACES:
        if entry.adapters.get(place) not in parts:
            yield f"adapters[{place!r}] is {entry.adapters.get(place)!r}, which no block has"
    if entry.feed_forward not in parts:
        yield f"feed_forward={entry.feed_forward!r} is in no block"
    looks_back = any(getattr(part, "is_causal", False) for part in parts.values())
    if looks_back is not entry.decoder:
        yield f"decoder={entry.decoder}, but a token sees {'only those before it' if looks_back else 'all others'}"
    yield from _head(entry, model)


def _sizes(entry: Architecture, config: Any) -> Iterator[str]:
    for name, standard in (("width", "hidden_size"), ("layers", "num_hidden_layers")):
        key = getattr(entry, name)
        if getattr(config, key, None) != getattr(config, standard, None):
            yield f"{name}={key!r} is not the configuration's {standard}"
    drops = {key for key in config.to_dict() if "drop" in key and not key.startswith("layer")}
    if left := sorted(drops - set(entry.dropout)):
        yield f"dropout lacks {', '.join(left)}"


def _weights(entry: Architecture, parts: dict[str, nn.Module]) -> Iterator[str]:
    linear = {name for name, part in parts.items() if isinstance(part, nn.Linear)}
    for kind, path in entry.weights.items():
        if kind not in WEIGHT_TYPES:
            yield f"weights[{kind!r}] is no weight type (those are {', '.join(WEIGHT_TYPES)})"
        if path not in linear:
            yield f"weights[{kind!r}] is {path!r}, which is no linear layer of a block"
    if left := sorted(linear - set(entry.weights.values())):
        yield f"weights lacks {', '.join(left)}"


def _norms(entry: Architecture, parts: dict[str, nn.Module]) -> Iterator[str]:
    norms = {name for name, part in parts.items() if "norm" in type(part).__name__.lower()}
    if left := sorted(norms - set(entry.norms)):
        yield f"norms lacks {', '.join(left)}"
    if surplus := sorted(set(entry.norms) - norms):
        yield f"norms has {', '.join(surplus)}, which no block has"


def _head(entry: Architecture, model: nn.Module) -> Iterator[str]:
    backbone = getattr(model, "base_model_prefix", "")
    above = {name for name, part in model.named_children() if name != backbone and any(True for _ in part.parameters())}
    if above != set(entry.head):
        yield f"head is {', '.join(entry.head) or 'empty'}, and above the backbone lies {', '.join(sorted(above))}"
