"""The routes of the server, and what surrounds each of them: journal, authentication, errors."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

from lmbridge.emulator import cors
from lmbridge.emulator.admin import routes as admin
from lmbridge.emulator.compat import chat as compat_chat
from lmbridge.emulator.compat import other as compat_other
from lmbridge.emulator.compat.messages import route as compat_messages
from lmbridge.emulator.compat.responses import route as compat_responses
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import (
    CORE,
    Handler,
    attach,
    authorise,
    drop_connection,
    json_response,
    present_record,
)
from lmbridge.emulator.journal import RequestRecord, masked
from lmbridge.emulator.native import chat as native_chat
from lmbridge.emulator.native import models as native_models
from lmbridge.emulator.sdk import socket as sdk_socket
from lmbridge.emulator.uncertain import settled, unknown_route_answer

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.settings import Settings

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 1024 * 1024
"""Largest body of an HTTP request, in bytes."""

NEW_PATHS = ("/api/v1/", "/v1/messages")
"""What there was not before 0.4."""

NAMESPACES = ("llm", "embedding", "system", "files", "repository")

NATIVE: dict[tuple[str, str], Handler] = {
    ("POST", "/api/v1/chat"): native_chat.chat,
    ("GET", "/api/v1/models"): native_models.list_models,
    ("POST", "/api/v1/models/load"): native_models.load_model,
    ("POST", "/api/v1/models/unload"): native_models.unload_model,
    ("POST", "/api/v1/models/download"): native_models.download_model,
    ("GET", "/api/v1/models/download/status/{job_id}"): native_models.download_status,
}
COMPATIBLE: dict[tuple[str, str], Handler] = {
    ("GET", "/api/v0/models"): compat_other.v0_models,
    ("GET", "/api/v0/models/{model:.+}"): compat_other.v0_model,
    ("POST", "/api/v0/chat/completions"): compat_chat.chat_completions,
    ("POST", "/api/v0/completions"): compat_other.completions,
    ("POST", "/api/v0/embeddings"): compat_other.embeddings,
    ("GET", "/v1/models"): compat_other.v1_models,
    ("POST", "/v1/chat/completions"): compat_chat.chat_completions,
    ("POST", "/v1/completions"): compat_other.completions,
    ("POST", "/v1/embeddings"): compat_other.embeddings,
    ("POST", "/v1/responses"): compat_responses.responses,
    ("POST", "/v1/messages"): compat_messages.messages,
}


@known(
    "observed", "clients that look for the server", "Answers that `lmstudio` is true, without a token, too."
)
async def greeting(request: web.Request) -> web.StreamResponse:
    """Say that this is LM Studio, or be another program on its port."""
    mode = request.app[CORE].settings.greeting
    if mode == "hang":
        await asyncio.Event().wait()
    if mode == "ok":
        return json_response({"lmstudio": True})
    text, kind = ("hello", "text/plain") if mode == "text" else ("<!doctype html><p>hello</p>", "text/html")
    return web.Response(text=text, content_type=kind)


@known("observed", "lmstudio-bug-tracker#1680, #1879", "Answers 200 with an `error`.")
async def unknown_route(request: web.Request) -> web.StreamResponse:
    """Answer 200 with an error, as the real server does (observed, bug-tracker#1879)."""
    message = f"Unexpected endpoint or method. ({request.method} {request.path})"
    present_record().warnings.append(f"{message}. Returning 200 anyway")
    return json_response(*unknown_route_answer(message, request.app[CORE].settings))


@web.middleware
async def _surround(request: web.Request, handler: Handler) -> web.StreamResponse:
    core = request.app[CORE]
    task = asyncio.current_task()
    if task is not None:
        core.handlers.add(task)
        task.add_done_callback(core.handlers.discard)
    if admin.concerns(request.path) and core.settings.admin:
        return await admin.answer(request, handler)
    upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    route = f"WS {request.path}" if upgrade else f"{request.method} {request.path}"
    record = core.journal.open(route, masked(request.headers.items()))
    attach(record)
    try:
        response = await _guarded(request, handler, upgrade=upgrade)
    except asyncio.CancelledError:
        _lost(record, upgrade=upgrade)
        raise
    except ConnectionError:
        _lost(record, upgrade=upgrade)
        return web.Response(status=499)  # nobody will read it
    except web.HTTPException as error:
        record.end("failed", error.reason)
        raise
    except Exception:
        record.end("failed", "internal error")
        raise
    record.status = response.status
    failed = response.status >= 400
    record.end("failed" if failed else "finished")
    return response


def _lost(record: RequestRecord, *, upgrade: bool) -> None:
    """Note that the client is gone; a prediction notes its own end."""
    record.disconnected = True
    if upgrade or record.phase in ("received", "embedding"):
        record.end("cancelled", "disconnected")
    record.note()


async def _guarded(request: web.Request, handler: Handler, *, upgrade: bool) -> web.StreamResponse:
    """Run the handler and put an error into the form of its route."""
    core = request.app[CORE]
    try:
        if core.settings.old_server and request.path.startswith(NEW_PATHS):
            return await unknown_route(request)
        if request.path.strip("/") in NAMESPACES and not upgrade:
            return await unknown_route(request)
        if admin.concerns(request.path):  # it is switched off: there is no such thing
            return await unknown_route(request)
        # Older versions of aiohttp take a response for a mapping, and an empty one for false.
        if (allowed := cors.preflight(request, core.settings)) is not None:
            return allowed
        if request.path != "/lmstudio-greeting" and not upgrade:
            authorise(request)
        return await handler(request)
    except EmulatedError as error:
        chosen = settled(error, request.path, core.settings)
        present_record().end("failed", chosen.message)
        return json_response(_error_body(request.path, chosen, core.settings), chosen.status)
    except web.HTTPRequestEntityTooLarge:
        too_large = EmulatedError("request entity too large", status=413, as_string=True)
        return json_response(_error_body(request.path, too_large, core.settings), 413)
    except ConnectionAbortedError:
        drop_connection(request)
        raise


def _error_body(path: str, error: EmulatedError, settings: Settings) -> dict[str, Any]:
    """Return an error in the form of its route."""
    string = settings.string_errors
    if path.startswith("/api/v1/"):
        return {"error": error.message if settings.native_string_errors else error.native()}
    if path == "/v1/messages":
        return error.anthropic()
    if path == "/v1/responses" and not string:  # no string was ever seen here
        return {"error": error.compat_object()}
    return error.compat(string=string)


async def _before_headers(request: web.Request, response: web.StreamResponse) -> None:
    if not admin.concerns(request.path):
        cors.mark(request, response, request.app[CORE].settings)


def make_app(core: Core) -> web.Application:
    """Return the server's application."""
    app = web.Application(middlewares=[_surround], client_max_size=MAX_BODY)
    app[CORE] = core
    app.on_response_prepare.append(_before_headers)
    app.router.add_get("/lmstudio-greeting", greeting)
    admin.add_routes(app)
    for (method, path), handler in {**NATIVE, **COMPATIBLE}.items():
        app.router.add_route(method, path, handler)
    for namespace in NAMESPACES:
        app.router.add_get(f"/{namespace}", sdk_socket.serve)
    app.router.add_route("*", "/{tail:.*}", unknown_route)
    return app
