"""Inputs that several nodes have."""

from __future__ import annotations

from typing import Final

from . import choices
from ._host import io
from .service import service

__all__ = ["CONVERSATION", "OPTIONS", "connection_input", "model_input", "preset_input"]

CONVERSATION: Final = "LMBRIDGE_CONVERSATION"
OPTIONS: Final = "LMBRIDGE_OPTIONS"


def connection_input() -> io.Input:
    """Return the dropdown of connections."""
    names = service.choices().connections
    return io.Combo.Input(
        "connection",
        options=list(names),
        default=names[0] if names else None,
        tooltip="Which server to ask. Connections are set up in the environment or in lmbridge.toml.",
    )


def model_input() -> io.Input:
    """Return the dropdown of models, which the page fills."""
    return io.Combo.Input(
        "model",
        options=[choices.AUTOMATIC],
        default=choices.AUTOMATIC,
        tooltip="Which model to ask. 'automatic': the connection's own, else the one that is loaded.",
    )


def preset_input() -> io.Input:
    """Return the dropdown of presets."""
    return io.Combo.Input(
        "preset",
        options=[choices.NO_PRESET, *service.choices().presets],
        default=choices.NO_PRESET,
        tooltip="A set of options. What the node or its options set themselves wins over it.",
    )
