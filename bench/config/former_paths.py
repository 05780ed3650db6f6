"""Functions of ours under the paths that they had before they moved: what was written then is still read."""

from typing import Any

from bench.config.function_names import FUNCTIONS, MOVED
from bench.config.user_sources import TARGET


def with_current_paths(node: Any) -> Any:
    """A node of the configuration with the functions where they are today, at any depth."""
    if isinstance(node, dict):
        found = {key: with_current_paths(value) for key, value in node.items()}
        if (name := MOVED.get(str(found.get(TARGET)))) is not None:
            found[TARGET] = FUNCTIONS[name]
        return found
    return [with_current_paths(value) for value in node] if isinstance(node, list) else node
