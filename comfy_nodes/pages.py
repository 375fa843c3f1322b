"""The answers to what the page asks for.

The core is imported at the first question. Its work is done on its own thread, and waited for only so long.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from . import guard
from .problems import last_problems, remember
from .screens import remember_page
from .service import service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from lmbridge.errors import LMBridgeError
    from lmbridge.operations import LoadRequest

__all__ = ["CHANGES", "QUESTIONS", "Refused"]

_T = TypeVar("_T")

_LISTING_SECONDS = 5.0
_CHANGE_SECONDS = 25.0
_FRESH_SECONDS = 30.0


class Refused(Exception):
    """A question that cannot be answered.

    Attributes:
        status: HTTP status.
        message: why, in one sentence.
        hint: what to do about it, or empty.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


class Listed(NamedTuple):
    """What a connection's server said.

    Attributes:
        at: when, in seconds of the monotonic clock.
        models: its models as JSON.
        error: why it did not answer.
    """

    at: float
    models: list[dict[str, Any]]
    error: LMBridgeError | None


_listed: dict[str, Listed] = {}


# -- questions -------------------------------------------------------------------------------------------


async def _session(query: Mapping[str, str]) -> dict[str, Any]:
    import lmbridge  # noqa: PLC0415

    client = query.get("client", "")
    if 0 < len(client) <= 200:
        remember_page(client)
    return {"token": guard.TOKEN, "version": lmbridge.__version__, "node_version": lmbridge.__version__}


async def _connections(query: Mapping[str, str]) -> dict[str, Any]:
    opened = await asyncio.to_thread(service.open)
    names = opened.settings.names()
    listed = await asyncio.gather(*(_list(name, refresh=bool(query.get("refresh"))) for name in names))
    shown = zip(names, listed, strict=True)
    return {"connections": [{**await _about(name), **_state(found.error)} for name, found in shown]}


async def _about(name: str) -> dict[str, Any]:
    from lmbridge.errors import LMBridgeError  # noqa: PLC0415

    opened = await asyncio.to_thread(service.open)
    provider = opened.settings.provider_of(name)
    try:
        info = await asyncio.to_thread(opened.plugins.info, provider)
        address = opened.settings.resolve(name, info).base_url
    except LMBridgeError:
        address = None
    return {"name": name, "provider": provider, "address": _shown_address(address)}


def _shown_address(address: str | None) -> str | None:
    return address.removeprefix("http://").rstrip("/") if address else None


def _state(error: LMBridgeError | None) -> dict[str, Any]:
    from lmbridge.errors import UnsupportedFeature  # noqa: PLC0415

    if error is None:
        return {"state": "up", "why": "", "hint": ""}
    state = "unknown" if isinstance(error, UnsupportedFeature) else "down"
    return {"state": state, "why": error.message, "hint": error.hint}


async def _models(query: Mapping[str, str]) -> dict[str, Any]:
    name = query.get("connection", "")
    opened = await asyncio.to_thread(service.open)
    if name not in opened.settings.names():
        raise Refused(404, "there is no such connection", f"there are {', '.join(opened.settings.names())}")
    found = await _list(name, refresh=bool(query.get("refresh")))
    error = None if found.error is None else {"message": found.error.message, "hint": found.error.hint}
    age = round(time.monotonic() - found.at, 1)
    return {"connection": name, "models": found.models, "error": error, "age_s": age}


async def _list(name: str, *, refresh: bool) -> Listed:
    from .listing import as_row  # noqa: PLC0415

    known = _listed.get(name)
    if known is not None and not refresh and time.monotonic() - known.at < _FRESH_SECONDS:
        return known
    opened = await asyncio.to_thread(service.open)
    listing = await _on_runtime(
        opened.bridge.list_models(name, timeout=_LISTING_SECONDS), _LISTING_SECONDS * 2
    )
    found = Listed(time.monotonic(), [as_row(model) for model in listing.models], listing.errors.get(name))
    _listed[name] = found
    return found


async def _plugins(query: Mapping[str, str]) -> dict[str, Any]:
    del query
    states = (await asyncio.to_thread(service.open)).plugins.states
    return {
        "plugins": [
            {
                "name": state.name,
                "kind": state.kind,
                "state": state.status,
                "distribution": state.distribution,
                "version": state.version,
                "failure": state.problem,
                "fix": state.hint,
            }
            for state in states
        ]
    }


async def _errors(query: Mapping[str, str]) -> dict[str, Any]:
    del query
    return {"errors": last_problems()}


# -- changes ---------------------------------------------------------------------------------------------


async def _load(body: Mapping[str, Any]) -> dict[str, Any]:
    connection, model = _texts(body, "connection", "model")
    opened = await asyncio.to_thread(service.open)
    try:
        copy = await _on_runtime(
            opened.bridge.load_model(connection, _load_request(model, body)), _CHANGE_SECONDS, go_on=True
        )
    finally:
        _listed.clear()
    return {"state": "loading"} if copy is None else {"state": "loaded", "id": copy.id}


def _load_request(model: str, body: Mapping[str, Any]) -> LoadRequest:
    from lmbridge.operations import LoadRequest  # noqa: PLC0415

    config, length = body.get("config"), body.get("context_length")
    if config is not None and not isinstance(config, dict):
        raise Refused(400, "config must be an object")
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
        raise Refused(400, "context_length must be a whole number of 1 or more")
    return LoadRequest(model=model, context_length=length, config=config)


async def _unload(body: Mapping[str, Any]) -> dict[str, Any]:
    connection, model = _texts(body, "connection", "model")
    opened = await asyncio.to_thread(service.open)
    try:
        gone = await _on_runtime(opened.bridge.unload_model(connection, model), _CHANGE_SECONDS)
    finally:
        _listed.clear()
    return {"unloaded": list(gone)}


async def _stop(body: Mapping[str, Any]) -> dict[str, Any]:
    from .calls import stop_calls  # noqa: PLC0415

    prompt_id, node = _texts(body, "prompt_id", "node")
    stopped = stop_calls(prompt_id, node)
    if not stopped:
        raise Refused(404, "this node is not asking anything")
    return {"stopped": stopped}


def _texts(body: Mapping[str, Any], *names: str) -> list[str]:
    values = [body.get(name) for name in names]
    if not all(isinstance(value, str) and 0 < len(value) <= 1000 for value in values):
        raise Refused(400, f"{' and '.join(names)} must be given, as texts")
    return [str(value) for value in values]


# -- the core's thread -----------------------------------------------------------------------------------


async def _on_runtime(work: Coroutine[Any, Any, _T], seconds: float, *, go_on: bool = False) -> Any:
    """Return the result of work on the core's thread.

    Args:
        work: what to do.
        seconds: how long to wait.
        go_on: it goes on after that, and ``None`` is returned; else it is cancelled.

    Raises:
        Refused: it failed, or took too long.
    """
    from lmbridge.errors import LMBridgeError  # noqa: PLC0415
    from lmbridge.runtime import runtime  # noqa: PLC0415

    future = asyncio.wrap_future(runtime().submit(work))
    try:
        async with asyncio.timeout(seconds):
            return await (asyncio.shield(future) if go_on else future)
    except LMBridgeError as error:
        remember(error)
        raise Refused(_status(error), error.message, error.hint) from None
    except TimeoutError:
        if not go_on:
            raise Refused(504, "the server took too long", "try again in a moment") from None
        future.add_done_callback(_note_failure)
        return None


def _note_failure(future: asyncio.Future[Any]) -> None:
    from lmbridge.errors import LMBridgeError  # noqa: PLC0415

    if not future.cancelled() and isinstance(error := future.exception(), LMBridgeError):
        remember(error)


def _status(error: LMBridgeError) -> int:
    from lmbridge import errors  # noqa: PLC0415

    if isinstance(error, errors.UnknownConnection | errors.ModelNotFound):
        return 404
    if isinstance(error, errors.ConfigurationError):
        return 400
    if isinstance(error, errors.UnsupportedFeature):
        return 409
    return 504 if isinstance(error, errors.TimedOut) else 502


QUESTIONS: Final[Mapping[str, Callable[[Any], Awaitable[dict[str, Any]]]]] = {
    "session": _session,
    "connections": _connections,
    "models": _models,
    "plugins": _plugins,
    "errors": _errors,
}
CHANGES: Final[Mapping[str, Callable[[Any], Awaitable[dict[str, Any]]]]] = {
    "models/load": _load,
    "models/unload": _unload,
    "stop": _stop,
}
