"""A resolved configuration: plain data whose texts mean themselves.

It may hold what a data file says, such as a label that reads `${rank}`, so it never goes through OmegaConf again, which
would take such a text for an expression.
"""

from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from hydra.utils import instantiate
from omegaconf import MISSING, OmegaConf

from bench.config.former_paths import with_current_paths

T = TypeVar("T")


def typed(kind: type[T], values: dict[str, Any]) -> T:
    """A node of the configuration as its dataclass.

    ValueError: a value that is none of its setting's choices. TypeError: a setting that the dataclass does not have.
    """
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _as(types.get(name), value) for name, value in values.items()})


def _as(kind: Any, value: Any) -> Any:
    """A value as a field's type: only dataclasses and choices are not plain data. What is not set stays so."""
    if value is None or value == MISSING:
        return value
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return [_as(item, one) for one in value]
    if is_dataclass(kind) and isinstance(kind, type):
        return typed(kind, value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value


def plain_data(value: Any) -> Any:
    """A typed configuration as plain data, choices by their names: what a record holds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain_data(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(one) for one in value]
    return value.name if isinstance(value, Enum) else value


def completed(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """A configuration in the settings of today: what has become one since stands at its default, and what is none any
    more is left out.
    """
    defaults: Any = OmegaConf.to_container(OmegaConf.structured(kind), enum_to_str=True)
    found = {key: values.get(key, default) for key, default in defaults.items()}
    nodes = [field.name for field in fields(kind) if is_dataclass(field.type)]
    given = {name: values.get(name, {}) for name in nodes}
    return found | {
        name: {key: given[name].get(key, default) for key, default in defaults[name].items()} for name in nodes
    }


def call(node: dict[str, Any]) -> Any:
    """What a node's `_target_` gives. ValueError: an expression is left in it, which would be evaluated now."""
    for text in _texts(node):
        if "${" in text:
            raise ValueError(f"{node.get('_target_')}: {text!r} holds an expression; give its value instead")
    return instantiate(with_current_paths(node))


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) else []
