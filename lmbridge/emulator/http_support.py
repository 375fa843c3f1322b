"""What the HTTP routes share: reading a body, authentication, answering, server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from lmbridge.emulator import errors
from lmbridge.emulator.core import Core
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.generation import Generation
from lmbridge.emulator.settings import TOKEN_PATTERN, ApiToken

if TYPE_CHECKING:
    from lmbridge.emulator.job import Job
    from lmbridge.emulator.journal import RequestRecord

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CORE: web.AppKey[Core] = web.AppKey("core", Core)


@dataclass(slots=True)
class _Present:
    record: RequestRecord
    token: ApiToken | None = None


# Every request is handled in a task of its own. aiohttp's keys of a request differ between its versions.
_present: ContextVar[_Present] = ContextVar("lmbridge_emulator_request")


def attach(record: RequestRecord) -> None:
    """Give the request of this task its entry in the journal."""
    _present.set(_Present(record))


def present_record() -> RequestRecord:
    """Return the entry in the journal of this task's request."""
    return _present.get().record


def present_token() -> ApiToken | None:
    """Return the token that this task's request came with, None while authentication is off."""
    return _present.get().token


def authorise(request: web.Request) -> None:
    """Check the request's API token and remember it.

    Raises:
        EmulatedError: there is none, or not a valid one.
    """
    present = _present.get()
    present.token = authenticate(
        request.app[CORE], request.headers, own_header=request.path == "/v1/messages"
    )
    present.record.authenticated = present.token is not None


_ENCODER = msgspec.json.Encoder()


def dumps(value: Any) -> bytes:
    """Return JSON on one line."""
    return _ENCODER.encode(value)


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=dumps(value), status=status, content_type="application/json", charset="utf-8")


def authenticate(core: Core, headers: Any, *, own_header: bool = False) -> ApiToken | None:
    """Check the API token; None while authentication is off.

    Args:
        core: the emulator.
        headers: of the request.
        own_header: whether `x-api-key` will do, too (docs: anthropic-compat).

    Raises:
        EmulatedError: there is none, or not a valid one.
    """
    if not core.tokens:
        return None
    scheme, _, value = str(headers.get("Authorization", "")).partition(" ")
    if own_header and headers.get("x-api-key"):
        scheme, value = "bearer", str(headers["x-api-key"])
    if scheme.lower() != "bearer" or not value.strip():
        raise errors.no_token()
    if TOKEN_PATTERN.match(value.strip()):
        for token in core.tokens:
            if token.value == value.strip():
                return token
    raise errors.wrong_token()


async def body_of(request: web.Request) -> dict[str, Any]:
    """Read, record and decode the body.

    Raises:
        EmulatedError: it is no JSON object.
    """
    raw = await request.read()
    record = present_record()
    record.size = len(raw)
    request.app[CORE].journal.grown(len(raw))
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EmulatedError(f"Invalid JSON: {error}", code="invalid_json") from None
    record.body = body
    record.note()
    if not isinstance(body, dict):
        raise EmulatedError("Expected object, received something else", code="invalid_type")
    return body


class EventStream:
    """A stream of server-sent events that is not begun before its first event.

    Args:
        request: whose answer it is.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None

    @property
    def begun(self) -> bool:
        """Whether the status has been sent."""
        return self._response is not None

    async def begin(self) -> web.StreamResponse:
        """Send status 200 and the headers."""
        if self._response is None:
            headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
            self._response = web.StreamResponse(headers=headers)
            present_record().status = 200
            await self._response.prepare(self._request)
        return self._response

    async def send(self, data: bytes, event: str | None = None) -> None:
        """Send one event."""
        response = await self.begin()
        name = b"" if event is None else b"event: " + event.encode() + b"\n"
        await response.write(name + b"data: " + data + b"\n\n")

    async def finish(self) -> web.StreamResponse:
        """End the body."""
        response = await self.begin()
        await response.write_eof()
        return response


def drop_connection(request: web.Request) -> None:
    """Reset the client's connection."""
    if request.transport is not None:
        request.transport.abort()


class Prediction:
    """A generation that is stopped when the client of its request is gone.

    Args:
        request: whose client it is.
        job: what to predict.
        streaming: whether the request streams; others are noticed late or never, as the settings say.
    """

    def __init__(self, request: web.Request, job: Job, *, streaming: bool) -> None:
        self._core = request.app[CORE]
        self._record = present_record()
        self._streaming = streaming
        self.generation = Generation(self._core, job, self._record)

    async def __aenter__(self) -> Generation:
        return self.generation

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        gone = issubclass(kind, (asyncio.CancelledError, ConnectionError))
        if gone:
            self._record.disconnected = True
            self._record.note()
        if not gone or self._streaming or self._core.settings.stop_without_stream:
            self.generation.abandon("disconnected")
        else:
            # Nobody reads any more, but the work goes on to its end.
            self._core.tasks.spawn(_drain(self.generation, self._record), "prediction without a client")


async def _drain(generation: Generation, record: RequestRecord) -> None:
    async for _ in generation:
        pass
    record.end("finished")


def text_of(body: dict[str, Any], key: str, *, required: bool = False) -> str | None:
    """Return a string field.

    Raises:
        EmulatedError: it is absent though required, or no string.
    """
    value = body.get(key)
    if value is None:
        if required:
            raise errors.missing(key)
        return None
    if not isinstance(value, str):
        raise errors.wrong_type(key, "string")
    return value


def number_of(body: dict[str, Any], key: str, *, integer: bool = False) -> Any:
    """Return a number, None if it is absent.

    Raises:
        EmulatedError: it is no number, or no integer where one is wanted.
    """
    value = body.get(key)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (integer and not whole):
        raise errors.wrong_type(key, "integer" if integer else "number")
    return int(value) if integer else value
