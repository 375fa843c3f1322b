"""Errors of the engine and its memory that nobody has published: their forms are assumed."""

from __future__ import annotations

from lmbridge.emulator.errors import EmulatedError


def queue_full(key: str) -> EmulatedError:
    """Too many predictions wait for the instance (that there may be no queue: bug-tracker#1653)."""
    return EmulatedError(
        f"Model '{key}' has too many requests waiting.",
        status=429,
        code="rate_limit_exceeded",
        compat_type="rate_limit_error",
    )


def context_refused(key: str, loaded: int, asked: int) -> EmulatedError:
    """The model is loaded with another context than the request asks for."""
    return EmulatedError(
        f"Model '{key}' is loaded with a context length of {loaded}, not {asked}.",
        code="invalid_value",
        param="context_length",
    )


def engine_blind(key: str) -> EmulatedError:
    """A picture for a model without eyes, in llama.cpp's words."""
    message = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
    return EmulatedError(message, status=500, as_string=True, param="input", title=f"{message} ({key})")
