"""Translate the former paths of our functions, so that older records and yaml files can still be read."""

from typing import Any

from bench.config.function_names import FUNCTIONS, MOVED
from bench.config.user_sources import TARGET


def with_current_paths(node: Any) -> Any:
    """Return a node of the configuration with former paths of our functions replaced by current ones, at any depth."""
    if isinstance(node, dict):
        updated = {key: with_current_paths(value) for key, value in node.items()}
        if (name := MOVED.get(str(updated.get(TARGET)))) is not None:
            updated[TARGET] = FUNCTIONS[name]
        return updated
    return [with_current_paths(value) for value in node] if isinstance(node, list) else node
