"""Weight types in the LoRA paper's words, resolved exactly for each architecture.

Plain suffixes are not enough: in BERT `output.dense` ends the attention's output and the feed-forward's alike.
So a target becomes one regular expression over full module names, anchored at the layer's number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.models.architectures import MLP, architecture_of

LAYER = r"(?:.*\.)?{blocks}\.\d+"


@dataclass(frozen=True)
class Target:
    """A resolved target: `pattern` matches the full names of the adapted linear layers, and nothing else.

    `down_pattern` matches those among them that read the feed-forward's inner activation (IA3 rescales their
    input, where it rescales the output of all others); None where there are none.
    """

    pattern: str
    down_pattern: str | None

    def matches(self, module_name: str) -> bool:
        """Whether the linear layer of that full name is adapted."""
        return re.fullmatch(self.pattern, module_name) is not None


def spelled_out(parts: Sequence[str], model_type: str) -> tuple[str, ...]:
    """The weight types that a list means, each once: `mlp` is all of the feed-forward, `all` is everything."""
    types = list(architecture_of(model_type).weights)
    groups = {"mlp": [part for part in types if part in MLP], "all": types}
    return tuple(dict.fromkeys(part for name in parts for part in groups.get(name, [name])))


def resolve(parts: Sequence[str], model_type: str) -> Target:
    """Turn weight types into module names. ValueError: a type that the architecture lacks."""
    architecture, meant = architecture_of(model_type), spelled_out(parts, model_type)
    paths = architecture.weights
    if unknown := [part for part in meant if part not in paths]:
        raise ValueError(
            f"target part {unknown[0]!r} is unknown for {model_type}; choose from {', '.join(paths)}, mlp, all "
            "(target.parts=[...]), or a named target: see conf/target"
        )
    if not meant:
        raise ValueError(f"target.parts is empty; choose from {', '.join(paths)}, mlp, all")
    layer = LAYER.format(blocks=re.escape(architecture.blocks))

    def pattern(those: Sequence[str]) -> str:
        return rf"{layer}\.(?:{'|'.join(re.escape(paths[part]) for part in those)})"

    return Target(pattern(meant), pattern(["down"]) if "down" in meant else None)


def name_of(parts: Sequence[str], model_type: str) -> str:
    """Name a list of weight types in the LoRA paper's words: qv, qkvo, mlp, all; others joined by a plus."""
    types = list(architecture_of(model_type).weights)
    if set(parts) == set(types):
        return "all"
    if set(parts) == {part for part in types if part in MLP}:
        return "mlp"
    ordered = sorted(parts, key=types.index)
    letters = "".join(part for part in ordered if len(part) == 1)
    return "+".join(filter(None, [letters, *(part for part in ordered if len(part) > 1)]))
