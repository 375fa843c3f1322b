"""What the page asks for: ``/lmbridge/…``, each within a bounded time, never with an address or a key."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import _host, guard
from .service import service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CHANGES", "QUESTIONS", "add_routes", "free_with_comfyui"]

_log = logging.getLogger(__name__)

_LARGEST_BODY = 256 * 1024

#: What :mod:`comfy_nodes.pages` answers, by GET and by POST.
QUESTIONS = ("session", "connections", "models", "plugins", "errors")
CHANGES = ("models/load", "models/unload", "stop")


def add_routes() -> None:
    """Serve them. Before ComfyUI's server starts."""
    for name in QUESTIONS:
        _host.add_route("GET", f"/lmbridge/{name}", _question(name))
    for name in CHANGES:
        _host.add_route("POST", f"/lmbridge/{name}", _change(name))


def _question(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        reason = guard.refusal(request.headers, service.choices().hosts)
        if reason is not None:
            return _error(403, reason)
        from .pages import QUESTIONS as HANDLERS  # noqa: PLC0415 - not needed before the first question

        return await _answered(HANDLERS[name](request.query))

    return answer


def _change(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        reason = guard.refusal_of_change(request.headers, service.choices().hosts)
        if reason is not None:
            return _error(403, reason)
        body = await _body(request)
        if body is None:
            return _error(400, "the request must be a JSON object")
        from .pages import CHANGES as HANDLERS  # noqa: PLC0415 - see above

        return await _answered(HANDLERS[name](body))

    return answer


async def _body(request: web.Request) -> dict[str, Any] | None:
    if (request.content_length or 0) > _LARGEST_BODY:
        return None
    try:
        body = json.loads(await request.content.read(_LARGEST_BODY))
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


async def _answered(work: Awaitable[Any]) -> web.Response:
    from .pages import Refused  # noqa: PLC0415

    try:
        return web.json_response(await work, headers={"Cache-Control": "no-store"})
    except Refused as refused:
        return _error(refused.status, refused.message, refused.hint)


def _error(status: int, message: str, hint: str = "") -> web.Response:
    return web.json_response({"error": {"message": message, "hint": hint}}, status=status)


@web.middleware
async def free_with_comfyui(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Unload our models, too, when ComfyUI is told to unload its own."""
    response = await handler(request)
    if request.method == "POST" and request.path.removeprefix("/api") == "/free" and response.status == 200:
        try:
            body = await request.json()  # aiohttp has kept what ComfyUI's own handler read
        except (ValueError, RecursionError):
            return response
        if isinstance(body, dict) and (body.get("unload_models") or body.get("free_memory")):
            await asyncio.to_thread(_release)
    return response


def _release() -> None:
    from .unloading import in_background, release_everything  # noqa: PLC0415 - imports the core

    in_background(release_everything())
