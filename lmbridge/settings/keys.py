"""API keys: made fit for a header, and kept from addresses that they are not meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.errors import ConfigurationError
from lmbridge.settings.addresses import normalise_address, same_origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmbridge.catalog import FallbackKey
    from lmbridge.settings.values import Layer, Raw

__all__ = ["clean_key", "find_fallback_key"]

_LONGEST = 8192


def clean_key(key: Any) -> str:
    """Return ``key`` as it can be sent in a header.

    White space around it goes, and one pair of quotes around it, as people paste them.

    Raises:
        ConfigurationError: it is empty, or contains a line break or another character that could change the
            header or cannot be sent in one. The message does not show the key.
    """
    reveal = getattr(key, "get_secret_value", None)
    text = reveal() if callable(reveal) else key
    if not isinstance(text, str):
        raise ConfigurationError("the key is not a text", hint="put it in quotes")
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if not text:
        raise ConfigurationError("the key is empty", hint="set it, or remove the setting if there is none")
    if len(text) > _LONGEST:
        raise ConfigurationError("the key is too long", hint="the variable must hold the key alone")
    if not text.isprintable() or any(ord(char) > 0xFF for char in text):
        raise ConfigurationError(
            "the key contains a line break, an invisible character or one that a header cannot hold",
            hint="copy the key again, and nothing besides it",
        )
    return text


def find_fallback_key(
    layers: Sequence[Layer], keys: Sequence[FallbackKey], address: str, supplier: Raw | None
) -> Raw | None:
    """Return the first foreign key that may be sent to ``address``, or ``None``.

    A key is bound: to the origin of its own address, or to the address that a foreign variable of the *same*
    source supplied. A key from one source thus never goes where another source points.

    Args:
        layers: the sources, first wins.
        keys: as the provider names them, first wins.
        address: normalised address of the connection.
        supplier: the foreign variable that supplied ``address``, if one did.
    """
    for key in keys:
        for layer, raw in _candidates(layers, key):
            if _same_address(address, key.address) or _supplied(supplier, layer, key):
                return raw
    return None


def _candidates(layers: Sequence[Layer], key: FallbackKey) -> Iterator[tuple[Layer, Raw]]:
    for layer in layers:
        if (raw := layer.foreign.get(key.variable)) is not None:
            yield layer, raw


def _same_address(address: str, other: str) -> bool:
    return bool(address) and same_origin(address, normalise_address(other))


def _supplied(supplier: Raw | None, layer: Layer, key: FallbackKey) -> bool:
    """Whether ``layer``, which holds the key, also supplied the address through the key's own variable."""
    if supplier is None or key.address_variable is None:
        return False
    return supplier is layer.foreign.get(key.address_variable)
