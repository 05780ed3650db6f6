"""A resolved configuration: plain data whose texts are taken literally.

It can contain text from a data file, such as a label `${rank}`. OmegaConf would evaluate such a text as an expression,
so a resolved configuration never goes through OmegaConf again.
"""

from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass
from enum import Enum
from inspect import Parameter, signature
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from hydra.utils import instantiate
from omegaconf import MISSING, OmegaConf

from bench.config.former_paths import with_current_paths

T = TypeVar("T")


def typed(kind: type[T], values: dict[str, Any]) -> T:
    """Convert a node of the configuration to its dataclass.

    Args:
        kind: The dataclass.
        values: The settings as plain data.

    Raises:
        ValueError: A value is not one of the choices of its setting.
        TypeError: The dataclass does not have one of the settings.
    """
    types = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _as(types.get(name), value) for name, value in values.items()})


def _as(kind: Any, value: Any) -> Any:
    """Convert a value to a field's type. Only dataclasses and enums change; None and missing values stay."""
    if value is None or value == MISSING:
        return value
    if isinstance(kind, UnionType):
        (kind,) = (option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is list:
        (item_kind,) = get_args(kind)
        return [_as(item_kind, item) for item in value]
    if is_dataclass(kind) and isinstance(kind, type):
        return typed(kind, value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value


def plain_data(value: Any) -> Any:
    """Convert a typed configuration to plain data, as records hold it. Enums become their names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def completed(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Bring an older configuration up to date with the current settings.

    Args:
        kind: The dataclass of the configuration.
        values: The older configuration as plain data.

    Returns:
        The configuration with exactly the current settings. Newer settings have their defaults, and settings that no
        longer exist are dropped.
    """
    defaults: Any = OmegaConf.to_container(OmegaConf.structured(kind), enum_to_str=True)
    settings = {key: values.get(key, default) for key, default in defaults.items()}
    nodes = [field.name for field in fields(kind) if is_dataclass(field.type)]
    given = {name: values.get(name, {}) for name in nodes}
    return settings | {
        name: {key: given[name].get(key, default) for key, default in defaults[name].items()} for name in nodes
    }


def call(node: dict[str, Any]) -> Any:
    """Call a node's `_target_` and return the result.

    Raises:
        ValueError: A text of the node still contains an expression, which this call would evaluate.
    """
    for text in _texts(node):
        if "${" in text:
            raise ValueError(f"{node.get('_target_')}: {text!r} holds an expression; give its value instead")
    return instantiate(with_current_paths(node))


def call_later(node: dict[str, Any], name: str, given: Collection[str]) -> Callable[..., Any]:
    """Return the node's `_target_` as a function that takes the remaining arguments.

    Args:
        node: The node.
        name: What the user calls the node, such as "task.load", for the error message.
        given: The arguments that the caller passes, so that they are no settings.

    Raises:
        ValueError: The function does not have one of the settings.
    """
    function = call({**node, "_partial_": True})
    parameters = signature(function.func).parameters.values()
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        settings = [parameter.name for parameter in parameters]
        if unknown := [key for key in function.keywords if key not in settings]:
            valid = [key for key in settings[len(function.args) :] if key not in given]
            raise ValueError(f"unknown setting {unknown[0]!r} of {name}; valid settings: {', '.join(valid) or 'none'}")
    return function  # type: ignore[no-any-return]


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) else []
