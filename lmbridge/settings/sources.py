"""What variables, trees and files say: each becomes a :class:`~lmbridge.settings.values.Layer`.

Names are resolved here and not by pydantic-settings, which cannot keep a wrong value from failing its whole
source, does not tell where a value came from, reads nested values as JSON in releases that must be supported
(a key ``1e400`` becomes ``inf``), and lets ``.env`` pull in variables of the environment by ``${…}``, past
the rule that a foreign key stays with the addresses of its own source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lmbridge.errors import near_matches
from lmbridge.settings.names import (
    CONNECTIONS,
    PREFIX,
    environment_name,
    fold_field,
    fold_name,
    is_connection_name,
)
from lmbridge.settings.values import Layer, Origin, Problem, Raw

__all__ = ["GENERAL_SETTINGS", "MakeOrigin", "layer_from_tree", "layer_from_variables"]

MakeOrigin: TypeAlias = Callable[[str], Origin]

#: Settings of lmbridge as a whole; the model in :mod:`lmbridge.settings.model` has the same.
GENERAL_SETTINGS = (
    "log",
    "plugins",
    "plugins_disable",
    "strict_plugins",
    "default_connection",
    "comfyui_hosts",
    "env_file",
    "config_file",
)
#: Empty means something here: no plugin at all.
_MAY_BE_EMPTY = frozenset({"plugins"})
_NAME_HINT = "use lower-case letters, digits and -, beginning with a letter or digit"


def layer_from_variables(layer: Layer, variables: Mapping[str, str], origin: MakeOrigin) -> Layer:
    """Fill ``layer`` from the variables of an environment or ``.env`` file.

    Case is ignored in ``LMBRIDGE_`` names; where two differ in case only, the one in upper case counts. An
    empty value counts as not set.
    """
    # Single settings come before the JSON forms, which they override, and upper case before others.
    for name in sorted(variables, key=lambda name: (-name.count("__"), name != name.upper(), name)):
        raw = Raw(variables[name], origin(name))
        if not (name.isascii() and name.upper().startswith(PREFIX)):
            if raw.value.strip():
                layer.foreign.setdefault(name, raw)
            continue
        _take_variable(layer, name.upper(), raw)
    return layer


def layer_from_tree(layer: Layer, tree: Mapping[str, Any], origin: MakeOrigin) -> Layer:
    """Fill ``layer`` from nested tables: ``{"log": …, "connections": {name: {setting: value}}}``."""
    for key, value in tree.items():
        setting, raw = fold_field(str(key)), Raw(value, origin(str(key)))
        if value is None:
            continue
        if setting == "connections":
            _take_connections(layer, raw, origin)
        elif setting in GENERAL_SETTINGS:
            layer.general.setdefault(setting, raw)
        else:
            near = near_matches(setting, (*GENERAL_SETTINGS, "connections"), limit=1)
            _unknown(layer, raw.origin, near)
    return layer


def _take_variable(layer: Layer, name: str, raw: Raw) -> None:
    setting = name.removeprefix(PREFIX).lower()
    if not raw.value.strip() and setting not in _MAY_BE_EMPTY:
        return
    if setting in GENERAL_SETTINGS:
        layer.general.setdefault(setting, raw)
    elif name == CONNECTIONS:
        _take_connections(layer, _from_json(layer, raw), lambda _: raw.origin)
    elif name.startswith(f"{CONNECTIONS}__"):
        # The last double underscore counts, so that a name may contain two hyphens.
        connection, parted, field = name.removeprefix(f"{CONNECTIONS}__").rpartition("__")
        if parted:
            _take_value(layer, connection, field, raw)
        else:
            _take_connection(layer, field, _from_json(layer, raw), lambda _: raw.origin)
    else:
        _unknown(layer, raw.origin, _near_variables(name))


def _from_json(layer: Layer, raw: Raw) -> Raw | None:
    try:
        return Raw(json.loads(raw.value), raw.origin)
    except (ValueError, RecursionError):
        hint = 'write {"workstation": {"base_url": …}}, or one variable for each setting'
        layer.problems.append(Problem(None, raw.origin.label, "this is not valid JSON", hint))
        return None


def _take_connections(layer: Layer, raw: Raw | None, origin: MakeOrigin) -> None:
    if raw is None:
        return
    if not isinstance(raw.value, Mapping):
        layer.problems.append(
            Problem(
                None, raw.origin.label, "this is no table of connections", "write a table for each connection"
            )
        )
        return
    for name, value in raw.value.items():
        path = f"connections.{name}"
        _take_connection(layer, str(name), Raw(value, origin(path)), _below(origin, path))


def _below(origin: MakeOrigin, path: str) -> MakeOrigin:
    return lambda key: origin(f"{path}.{key}")


def _take_connection(layer: Layer, name: str, raw: Raw | None, origin: MakeOrigin) -> None:
    if raw is None:
        return
    if not isinstance(raw.value, Mapping):
        message = "this is no table of a connection's settings"
        layer.problems.append(Problem(None, raw.origin.label, message, 'write {"base_url": …}'))
        return
    if _valid_name(layer, name, raw.origin):
        layer.connections.setdefault(fold_name(name), {})
        for field, value in raw.value.items():
            _take_value(layer, name, str(field), Raw(value, origin(str(field))))


def _take_value(layer: Layer, connection: str, field: str, raw: Raw) -> None:
    if _valid_name(layer, connection, raw.origin) and raw.value is not None:
        layer.connections.setdefault(fold_name(connection), {}).setdefault(fold_field(field), raw)


def _valid_name(layer: Layer, name: str, origin: Origin) -> bool:
    if is_connection_name(fold_name(name)):
        return True
    problem = Problem(None, origin.label, "this does not name a connection as it must", _NAME_HINT)
    if problem not in layer.problems:
        layer.problems.append(problem)
    return False


def _unknown(layer: Layer, origin: Origin, near: tuple[str, ...]) -> None:
    hint = f"did you mean {' or '.join(near)}?" if near else "see docs/reference/settings.md"
    layer.problems.append(Problem(None, origin.label, "there is no such setting", hint))


def _near_variables(name: str) -> tuple[str, ...]:
    head, parted, rest = name.partition("__")
    known = [*(environment_name(None, setting) for setting in GENERAL_SETTINGS), CONNECTIONS]
    if parted:  # only connections have such names
        return (f"{CONNECTIONS}__{rest}",)
    return near_matches(head, known, limit=1)
