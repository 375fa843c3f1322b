"""Errors of the engine and its memory that nobody has published: their forms are assumed."""

from __future__ import annotations

from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import known


@known("assumed", "lmstudio-bug-tracker#1653: no queue was seen")
def queue_full(key: str) -> EmulatedError:
    """Too many predictions wait for the instance."""
    return EmulatedError(
        f"Model '{key}' has too many requests waiting.",
        status=429,
        code="rate_limit_exceeded",
        compat_type="rate_limit_error",
    )


@known("assumed", "LM Studio docs, rest/chat does not say")
def context_refused(key: str, loaded: int, asked: int) -> EmulatedError:
    """The model is loaded with another context than the request asks for."""
    return EmulatedError(
        f"Model '{key}' is loaded with a context length of {loaded}, not {asked}.",
        code="invalid_value",
        param="context_length",
    )


@known("assumed", "the words of llama.cpp")
def engine_blind(key: str) -> EmulatedError:
    """A picture for a model without eyes, in llama.cpp's words."""
    message = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
    return EmulatedError(message, status=500, as_string=True, param="input", title=f"{message} ({key})")
