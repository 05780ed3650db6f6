"""Weight types in the LoRA paper's words, resolved exactly for each architecture.

Plain suffixes are not enough: in BERT `output.dense` ends the attention's output and the feed-forward's alike.
So a target becomes one regular expression over full module names, anchored at the layer's number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

BERT = {
    "q": r"attention\.self\.query",
    "k": r"attention\.self\.key",
    "v": r"attention\.self\.value",
    "o": r"attention\.output\.dense",
    "up": r"intermediate\.dense",
    "down": r"output\.dense",
}
LLAMA = {
    "q": r"self_attn\.q_proj",
    "k": r"self_attn\.k_proj",
    "v": r"self_attn\.v_proj",
    "o": r"self_attn\.o_proj",
    "gate": r"mlp\.gate_proj",
    "up": r"mlp\.up_proj",
    "down": r"mlp\.down_proj",
}
ROLES = {**dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), BERT), "llama": LLAMA}
MLP = ("gate", "up", "down")
LAYER = r"(?:.*\.)?layers?\.\d+"


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


def roles_of(model_type: str) -> dict[str, str]:
    """Weight types of an architecture; empty where it is unknown."""
    return ROLES.get(model_type, {})


def spelled_out(parts: Sequence[str], model_type: str) -> tuple[str, ...]:
    """The weight types that a list means, each once: `mlp` is all of the feed-forward, `all` is everything."""
    roles = roles_of(model_type)
    groups = {"mlp": [part for part in roles if part in MLP], "all": list(roles)}
    return tuple(dict.fromkeys(part for name in parts for part in groups.get(name, [name])))


def resolve(parts: Sequence[str], model_type: str) -> Target:
    """Turn weight types into module names. ValueError: a type that the architecture lacks."""
    roles, meant = roles_of(model_type), spelled_out(parts, model_type)
    if unknown := [part for part in meant if part not in roles]:
        raise ValueError(
            f"target part {unknown[0]!r} is unknown for {model_type}; choose from {', '.join(roles)}, mlp, all "
            "(target.parts=[...]), or a named target: see conf/target"
        )
    if not meant:
        raise ValueError(f"target.parts is empty; choose from {', '.join(roles)}, mlp, all")
    down = roles["down"] if "down" in meant else None
    return Target(_pattern([roles[part] for part in meant]), _pattern([down]) if down else None)


def name_of(parts: Sequence[str], model_type: str) -> str:
    """Name a list of weight types in the LoRA paper's words: qv, qkvo, mlp, all; others joined by a plus."""
    roles = list(roles_of(model_type))
    if set(parts) == set(roles):
        return "all"
    if set(parts) == {part for part in roles if part in MLP}:
        return "mlp"
    ordered = sorted(parts, key=roles.index)
    letters = "".join(part for part in ordered if len(part) == 1)
    return "+".join(filter(None, [letters, *(part for part in ordered if len(part) > 1)]))


def _pattern(suffixes: Sequence[str]) -> str:
    return rf"{LAYER}\.(?:{'|'.join(suffixes)})"
