"""Servers that do not speak ``/api/v1``: LM Studio before 0.4.0, and programs that are not LM Studio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lmbridge.errors import LMBridgeError, ProtocolError, ServerError
from lmbridge.http import get_json

if TYPE_CHECKING:
    from lmbridge.context import Context

__all__ = ["OLD_SERVER", "STRANGER", "explain", "is_missing_route", "old_server"]

#: Hint for what answers and is no LM Studio.
STRANGER = "is this the right address? Other servers work with the provider openai-compat"

#: How :class:`lmbridge.Health` names a server without ``/api/v1``.
OLD_SERVER = "LM Studio before 0.4.0"

_UNKNOWN_ROUTE = "unexpected endpoint or method"
_PROBE_SECONDS = 5.0
#: Routes by which an LM Studio is known, and a field of their answers; the first is that of 0.4.0.
_SIGNS = {"/api/v1/models": "models", "/api/v0/models": "data", "/lmstudio-greeting": "lmstudio"}


def is_missing_route(exc: LMBridgeError) -> bool:
    """Whether the server means that it does not know the route.

    LM Studio answers an unknown route with status 200 and a text (observed, lmstudio-bug-tracker#1879,
    #1680); others answer 404 or 405, or with a page.
    """
    if isinstance(exc, ProtocolError):
        return exc.status is not None  # a web page
    if _UNKNOWN_ROUTE in exc.message.lower():
        return True
    return exc.status in {404, 405} and isinstance(exc, ServerError)


def old_server() -> ServerError:
    """Return the error for a server that is recognised as LM Studio before 0.4.0."""
    return ServerError(
        "this LM Studio is older than 0.4.0 and has no native REST API v1",
        hint="update LM Studio to 0.4.0 or newer, or use a connection of the provider openai-compat "
        "or lmstudio-sdk",
        retryable=False,
    )


async def explain(exc: LMBridgeError, context: Context) -> LMBridgeError:
    """Return what a failure of ``/api/v1`` really means, asking the server what it is if need be.

    An error that has nothing to do with the server's version is returned as it is.
    """
    if not is_missing_route(exc):
        return exc
    if _UNKNOWN_ROUTE in exc.message.lower():
        return old_server()
    found = await _signs(context)
    if "/api/v1/models" in found:
        return exc  # it has the API; the failure is about something else
    if found:
        return old_server()
    return ProtocolError(
        f"{context.connection.netloc} does not answer as LM Studio does ({exc.message})",
        hint=STRANGER,
        status=exc.status,
    )


async def _signs(context: Context) -> set[str]:
    """Return the routes by which an LM Studio is known and that the server has, within some seconds."""
    found: set[str] = set()

    async def ask(path: str, field: str) -> None:
        with suppress(LMBridgeError):
            payload: Any = await get_json(context, path)
            if isinstance(payload, dict) and field in payload:
                found.add(path)

    with suppress(TimeoutError):
        async with asyncio.timeout(_PROBE_SECONDS), asyncio.TaskGroup() as probes:
            for path, field in _SIGNS.items():
                probes.create_task(ask(path, field))
    return found
