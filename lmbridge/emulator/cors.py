"""Pages of other origins: the server's setting "Enable CORS" (`lms server start --cors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Settings

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"


def preflight(request: web.Request, settings: Settings) -> web.StreamResponse | None:
    """Answer a browser's question whether a page may call; None: it was none, or pages may not."""
    if not settings.cors or request.method != "OPTIONS" or "Origin" not in request.headers:
        return None
    allowed = request.headers.get("Access-Control-Request-Headers", "*")
    return web.Response(
        status=204,
        headers={"Access-Control-Allow-Methods": METHODS, "Access-Control-Allow-Headers": allowed},
    )


def mark(request: web.Request, response: web.StreamResponse, settings: Settings) -> None:
    """Let the page read an answer; to be called before its headers are sent."""
    if settings.cors and "Origin" in request.headers:
        response.headers["Access-Control-Allow-Origin"] = "*"
