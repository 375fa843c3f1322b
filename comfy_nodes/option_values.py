"""From the values of the options node's widgets to options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmbridge.chat import Options

from .problems import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["json_object", "make_options"]


def make_options(*, load: str, extra: str, **values: Any) -> Options:
    """Return the options.

    Args:
        load: JSON object, or empty.
        extra: JSON object, or empty.
        values: the other fields of :class:`lmbridge.Options`.

    Raises:
        NodeError: a text is no JSON object.
    """
    return Options(load=json_object("load", load), extra=json_object("extra", extra), **values)


def json_object(name: str, text: str) -> Mapping[str, Any] | None:
    """Return the object that ``text`` holds; ``None`` if it is empty.

    Raises:
        NodeError: it holds something else.
    """
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NodeError(f'{name} is no JSON object. Write it as in {{"name": 1}}, or leave it empty.')
    return found
