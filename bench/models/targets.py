"""Weight types in the LoRA paper's terms, resolved to the exact modules of each architecture.

Suffixes of names are ambiguous: in BERT, `output.dense` ends both the attention's and the feed-forward's output layer.
So a target is one regular expression over full module names, anchored at the layer's number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.models.architectures import MLP, architecture_of

LAYER = r"(?:.*\.)?{blocks}\.\d+"


@dataclass(frozen=True)
class Target:
    """The linear layers that a method adapts.

    Attributes:
        pattern: Regular expression that matches the full names of the adapted linear layers and nothing else.
        down_pattern: Regular expression for those that read the feed-forward's inner activation. IA3 rescales the input
            of these layers and the output of all others. None if there are none.
    """

    pattern: str
    down_pattern: str | None

    def matches(self, module_name: str) -> bool:
        """Return whether the linear layer with this full name is adapted."""
        return re.fullmatch(self.pattern, module_name) is not None


def spelled_out(parts: Sequence[str], model_type: str) -> tuple[str, ...]:
    """Expand the groups in a list of weight types.

    Args:
        parts: Weight types, `mlp` (all of the feed-forward) or `all` (every type).
        model_type: The architecture's name in transformers.

    Returns:
        Weight types, each once. Unknown names are kept as they are.
    """
    types = list(architecture_of(model_type).weights)
    groups = {"mlp": [part for part in types if part in MLP], "all": types}
    return tuple(dict.fromkeys(part for name in parts for part in groups.get(name, [name])))


def resolve(parts: Sequence[str], model_type: str) -> Target:
    """Turn weight types into patterns of module names.

    Args:
        parts: Weight types, `mlp` or `all`.
        model_type: The architecture's name in transformers.

    Raises:
        ValueError: The list is empty or names a type that the architecture lacks.
    """
    architecture, types = architecture_of(model_type), spelled_out(parts, model_type)
    paths = architecture.weights
    if unknown := [part for part in types if part not in paths]:
        raise ValueError(
            f"target part {unknown[0]!r} is unknown for {model_type}; choose from {', '.join(paths)}, mlp, all "
            "(target.parts=[...]), or a named target: see conf/target"
        )
    if not types:
        raise ValueError(f"target.parts is empty; choose from {', '.join(paths)}, mlp, all")
    layer = LAYER.format(blocks=re.escape(architecture.blocks))

    def pattern(selected: Sequence[str]) -> str:
        return rf"{layer}\.(?:{'|'.join(re.escape(paths[part]) for part in selected)})"

    return Target(pattern(types), pattern(["down"]) if "down" in types else None)


def name_of(parts: Sequence[str], model_type: str) -> str:
    """Name a list of weight types in the LoRA paper's terms.

    Args:
        parts: Weight types of the architecture, without groups.
        model_type: The architecture's name in transformers.

    Returns:
        `all`, `mlp`, or the types in order: single letters first (qv, qkvo), then longer names, joined by a plus.
    """
    types = list(architecture_of(model_type).weights)
    if set(parts) == set(types):
        return "all"
    if set(parts) == {part for part in types if part in MLP}:
        return "mlp"
    ordered = sorted(parts, key=types.index)
    letters = "".join(part for part in ordered if len(part) == 1)
    return "+".join(filter(None, [letters, *(part for part in ordered if len(part) > 1)]))
