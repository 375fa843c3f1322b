"""HTTP as every provider needs it: addresses, keys, clocks and errors treated alike."""

import functools
import os
import re
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec

from lmbridge import failures
from lmbridge.context import Context
from lmbridge.errors import (
    ConfigurationError,
    InvalidRequest,
    LMBridgeError,
    ProtocolError,
    ServerUnreachable,
    TimedOut,
)
from lmbridge.settings import Connection
from lmbridge.transport import CannotConnect, ConnectTimedOut, Garbled, Proxy, Response, Route

__all__ = [
    "CLOSED",
    "UNTRUSTED",
    "WRONG_PORT",
    "Body",
    "Response",
    "encode_json",
    "get_json",
    "post_json",
    "request",
    "url_of",
]

#: Hints for what is no HTTP server, for what hangs up, and for what fails to become https.
WRONG_PORT = "another program, or https instead of http: is this the right port?"
CLOSED = "is this the right port, does the server want https, and has it crashed?"
UNTRUSTED = "does the server speak https there, with a certificate that this machine trusts?"

#: A struct or mapping is sent as JSON.
Body: TypeAlias = msgspec.Struct | Mapping[str, Any] | bytes | None

_ERROR_BODY_LIMIT = 64 * 1024
#: A list of models, and whatever else is asked for on the way; an answer may be full of vectors.
_GET_LIMIT = 32 * 1024 * 1024
_POST_LIMIT = 256 * 1024 * 1024
#: What may stand in a request line as it is; a model's name may hold anything.
_PLAIN_TARGET = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]*", re.ASCII)
_TARGET_SAFE = "!$%&'()*+,-./:;=?@_~[]"
_NOT_IN_A_HEADER = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
#: These say where a request ends and to whom it goes, or ask for an answer of another form.
_OUR_HEADERS = frozenset(
    {"connection", "content-length", "expect", "host", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
#: Those with an answer of the usual form: what follows a ``HEAD`` or a ``CONNECT`` is none.
_METHODS = frozenset({"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"})
_ZONE = re.compile(r"%[^\]]*(?=\])")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def encode_json(body: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """Return the body of a request as JSON.

    Raises:
        InvalidRequest: something in it has no JSON form.
    """
    try:
        return _encoder.encode(body)
    except (NotImplementedError, TypeError, ValueError, RecursionError) as exc:
        raise InvalidRequest(
            f"the request cannot be written as JSON: {exc}",
            hint="is there an object of no JSON form in extra, load or a schema, or half a character?",
        ) from exc


def url_of(context: Context, path: str) -> str:
    """Return the connection's address followed by ``path`` (``/v1/…``).

    Raises:
        ConfigurationError: the connection has no address.
    """
    base = context.connection.base_url
    if not base:
        name = context.connection.name.upper().replace("-", "_")
        raise ConfigurationError(
            "the connection has no address", hint=f"set LMBRIDGE_CONNECTIONS__{name}__BASE_URL"
        )
    return base + path


def _headers(connection: Connection, extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers by name; a further one takes the place of ours, whatever its case."""
    headers = {"User-Agent": "lmbridge", "Accept": "*/*"}
    key = connection.api_key
    if key is not None:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    own = {name.lower(): name for name in headers}
    for name, value in (extra or {}).items():
        headers.pop(own.get(name.lower(), name), None)
        headers[name] = value
    return headers


def _line(name: str, value: str) -> str:
    """Return a header's line.

    Raises:
        ConfigurationError: name or value hold what would end them, or what no header can hold. The value may
            be a key, so it is not shown.
    """
    if _HEADER_NAME.fullmatch(name) is None or name.lower() in _OUR_HEADERS:
        raise ConfigurationError(
            f"the header {name!r} cannot be sent",
            hint="it is no header's name, or one that lmbridge writes itself",
        )
    if _NOT_IN_A_HEADER.search(value):
        raise ConfigurationError(
            f"the header {name} cannot be sent: its value holds a line break or a character outside Latin-1",
            hint="is there something else in it, such as a second line?",
        )
    return f"{name}: {value}\r\n"


def _proxy(connection: Connection) -> str | None:
    """Return the proxy that the environment asks for; never one for an address of this machine."""
    if connection.is_loopback:
        return None
    # First whether there is one: on Windows the list of exceptions may ask for names in the network.
    proxy = urllib.request.getproxies().get(connection.base_url.partition(":")[0])
    return None if proxy is None or urllib.request.proxy_bypass(connection.netloc) else proxy


def _route(connection: Connection, scheme: str, proxy: str | None) -> Route:
    """Return where a request goes.

    Raises:
        ConfigurationError: the proxy's address is none. It may hold a password, so it is not shown.
    """
    try:
        through = None if proxy is None else Proxy.parse(proxy)
    except ValueError as exc:
        raise ConfigurationError(
            f"{connection.netloc} cannot be reached: {exc}",
            hint=f"see the variables {scheme}_proxy and {scheme.upper()}_PROXY, and no_proxy for exceptions",
        ) from None
    return Route(connection.host, connection.port, secure=scheme == "https", proxy=through)


def _way(
    connection: Connection, url: str, method: str, proxy: str | None, extra: Mapping[str, str] | None = None
) -> tuple[Route, bytes]:
    """Return where a request goes, and its head without what depends on the body."""
    if method not in _METHODS:
        raise ValueError(f"requests are {', '.join(sorted(_METHODS))}, not {method!r}")
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    authority = _ZONE.sub("", authority)  # it means something on this machine only
    target = slash + target
    if _PLAIN_TARGET.fullmatch(target) is None:
        target = quote(target, safe=_TARGET_SAFE)
    route = _route(connection, scheme, proxy)
    lines = "".join(_line(name, value) for name, value in _headers(connection, extra).items())
    if route.proxy is not None and not route.secure:
        target = f"http://{authority}{target}"
        if route.proxy.authorization is not None:
            lines += f"Proxy-Authorization: {route.proxy.authorization}\r\n"
    return route, f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\n{lines}".encode("latin-1")


def _framing(data: bytes | None, method: str, extra: Mapping[str, str] | None) -> bytes:
    """Return the end of a head: what depends on the body."""
    if data is None:
        return b"\r\n" if method == "GET" else b"Content-Length: 0\r\n\r\n"
    if extra and any(name.lower() == "content-type" for name in extra):
        return b"Content-Length: %d\r\n\r\n" % len(data)
    return b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)


#: The same few requests are sent again and again; their heads are written once.
_known_way = functools.lru_cache(maxsize=64)(_way)


def _translate(exc: Exception, context: Context, proxy: Proxy | None, *, answered: bool) -> LMBridgeError:
    where = context.connection.netloc
    cause = exc.__cause__
    through = "" if proxy is None else f" through the proxy {proxy.netloc}"
    if isinstance(exc, ConnectTimedOut):
        seconds = context.timeouts.connect
        message = f"no connection to {where}{through} within {seconds} s"
        return TimedOut(message, clock="connect", seconds=seconds)
    if answered:
        return ProtocolError(f"{where} broke the answer off ({type(exc).__name__})", retryable=True)
    if isinstance(cause, ssl.SSLError):
        return ServerUnreachable(
            f"no secure connection to {where}{through}: {_ssl_reason(cause)}",
            sent=False,
            retryable=False,
            hint=UNTRUSTED,
        )
    if isinstance(exc, Garbled):
        return ProtocolError(f"what answers at {where}{through} speaks no HTTP", hint=WRONG_PORT)
    if isinstance(exc, CannotConnect):
        if isinstance(cause, UnicodeError):
            return ConfigurationError(f"the address of {where} cannot be used: {cause}")
        hint = None if proxy is None else "is the proxy running? no_proxy names servers to reach without it"
        return ServerUnreachable(
            f"cannot connect to {where}{through}: {_reason(exc, cause)}", sent=False, hint=hint
        )
    return ServerUnreachable(f"{where}{through} closed the connection without an answer", hint=CLOSED)


def _ssl_reason(exc: ssl.SSLError) -> str:
    return str(getattr(exc, "verify_message", "") or exc.reason or type(exc).__name__)


def _reason(exc: CannotConnect, cause: BaseException | None) -> str:
    if isinstance(cause, socket.gaierror):
        return cause.strerror or "no such host"
    code = cause.errno if isinstance(cause, OSError) else None
    text = os.strerror(code) if code else ""
    return text if text and not text.startswith("Unknown error") else str(exc)


class request:  # noqa: N801 - used like a function
    """Send a request: ``async with request(…) as response``, to be read inside the block.

    The block is entered once the head of the answer is there. Leaving it before the body is read closes the
    socket, which is how HTTP servers learn that nobody wants the rest. A connection that breaks inside the
    block becomes an error of ours.

    Args:
        context: of the hook call.
        method: ``"GET"``, ``"POST"``…
        path: begins with a slash.
        body: what to send.
        headers: further ones; they win over the common ones.
        model: name of the requested model, for messages.

    Raises:
        LMBridgeError: the status is 300 or above, or the connection failed; see :mod:`lmbridge.failures`.
    """

    # A class, because an ``asynccontextmanager`` costs as much as the JSON of a request.
    __slots__ = ("_body", "_context", "_exchange", "_headers", "_method", "_model", "_path", "_proxy")

    def __init__(
        self,
        context: Context,
        method: str,
        path: str,
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> None:
        self._context = context
        self._method = method
        self._path = path
        self._body = body
        self._headers = headers
        self._model = model

    async def __aenter__(self) -> Response:
        context, body, method = self._context, self._body, self._method
        connection = context.connection
        url = url_of(context, self._path)
        proxy, extra = _proxy(connection), self._headers
        if extra:
            route, head = _way(connection, url, method, proxy, extra)
        else:
            route, head = _known_way(connection, url, method, proxy)
        data = body if isinstance(body, bytes | None) else encode_json(body)
        self._body = body = None  # it may hold pictures, and an answer takes minutes
        head += _framing(data, method, extra)
        self._proxy = route.proxy
        self._exchange = exchange = context.pool.exchange(
            route, head, data, seconds=context.timeouts.connect or 0.0, repeatable=method == "GET"
        )
        try:
            response = await exchange.__aenter__()
        except ConnectionError as exc:
            raise _translate(exc, context, route.proxy, answered=False) from exc
        if response.status < 300:
            return response
        try:
            error = await _failure(response, self._model)
        except ConnectionError as exc:
            raise _translate(exc, context, route.proxy, answered=True) from exc
        finally:
            await exchange.__aexit__(None, None, None)
        raise error

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exchange.__aexit__(kind, exc, trace)
        if isinstance(exc, ConnectionError):
            raise _translate(exc, self._context, self._proxy, answered=True) from exc


async def _failure(response: Response, model: str | None) -> LMBridgeError:
    body = await response.read(_ERROR_BODY_LIMIT)
    return failures.from_body(response.status, body, response.headers, model=model)


async def _read(response: Response, limit: int) -> bytes:
    body = await response.read(limit + 1)
    if len(body) > limit:
        raise ProtocolError(f"the answer is larger than {limit >> 20} MiB")
    return body


async def _json(response: Response, model: str | None, limit: int) -> Any:
    body = await _read(response, limit)
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if body.lstrip()[:1] == b"<":
            raise failures.from_body(response.status, body, response.headers, model=model) from exc
        raise ProtocolError("the answer is not JSON", hint="is this the right port and path?") from exc
    # LM Studio answers unknown routes with status 200 and an error (observed, lmstudio-bug-tracker#1879).
    if isinstance(payload, dict) and (error := failures.error_in(payload)) is not None:
        raise error
    return payload


async def get_json(context: Context, path: str, *, headers: Mapping[str, str] | None = None) -> Any:
    """GET ``path`` and return the decoded JSON.

    Raises:
        LMBridgeError: as :func:`request`; also ``ProtocolError`` for an answer that is not JSON, and the
            error that a body with status 200 holds.
    """
    async with request(context, "GET", path, headers=headers) as response:
        return await _json(response, None, _GET_LIMIT)


async def post_json(
    context: Context,
    path: str,
    body: Body,
    *,
    headers: Mapping[str, str] | None = None,
    model: str | None = None,
) -> Any:
    """POST ``body`` to ``path`` and return the decoded JSON; errors as :func:`get_json`."""
    async with request(context, "POST", path, body=body, headers=headers, model=model) as response:
        return await _json(response, model, _POST_LIMIT)
