"""Which parameters make up the task's head: new for the task, and trained by every method."""

from torch import nn

HEADS = ("classifier", "score")  # transformers' names in its sequence classification models


def is_head(name: str) -> bool:
    """Whether a parameter's full name lies in the task's head."""
    return any(part in HEADS for part in name.split("."))


def head_names(model: nn.Module) -> list[str]:
    """The head's module names at the top of the model."""
    return [name for name, _ in model.named_children() if name in HEADS]
