"""What the SDK's protocol can do and its public interface cannot: one guarded function for each way.

Each function looks for what it needs and refuses with a hint where a new SDK lacks it; each has a test that
fails when the SDK changes. Verified with lmstudio 1.5.0 and 1.6.0b1.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx
import lmstudio as lms

from lmbridge.errors import ConfigurationError, UnsupportedFeature

__all__ = [
    "add_fields",
    "authenticate",
    "bypass_proxy",
    "limit_messages",
    "open_channel",
    "skip_greeting",
    "takes_token",
    "watch_packets",
]

_log = logging.getLogger(__name__)

Packet = Mapping[str, Any]
#: A field of the server's configuration: ``("llm.prediction.seed", {"checked": True, "value": 1})``.
Field = tuple[str, Any]


def takes_token() -> bool:
    """Whether the client takes an API token by itself (from 1.6 on)."""
    return "api_token" in inspect.signature(lms.AsyncClient.__init__).parameters


def authenticate(client: lms.AsyncClient, identifier: str, passkey: str) -> None:
    """Give a client of 1.5.0, which knows no API tokens, the halves of one.

    Raises:
        ConfigurationError: this version has neither way.
    """
    form = getattr(client, "_format_auth_message", None)
    if form is None or not isinstance(getattr(client, "_auth_details", None), dict):
        raise ConfigurationError(
            "this version of lmstudio takes no API token", hint="install lmstudio 1.5.0, or 1.6 or later"
        )
    client._auth_details = form(identifier, passkey)  # noqa: SLF001


def skip_greeting(client: lms.AsyncClient) -> None:
    """Spare the client its own greeting, which allows 1 s, asks proxies and raises what it likes.

    Ours has been answered by then. Without this way the SDK simply greets again.
    """

    async def greeted() -> None:
        return None

    if hasattr(client, "_ensure_api_host_is_valid"):
        client._ensure_api_host_is_valid = greeted  # type: ignore[method-assign]  # noqa: SLF001


_direct: ContextVar[bool] = ContextVar("lmbridge_direct", default=False)


@asynccontextmanager
async def bypass_proxy(netloc: str) -> AsyncIterator[None]:
    """Within the block, clients that are opened ignore the proxy that the environment names.

    The SDK opens its sockets with httpx, which asks ``ALL_PROXY`` even for 127.0.0.1. The function that it
    opens them with gets a client of ours, for connections begun in this block only.

    Raises:
        ConfigurationError: this version opens its sockets in another way.
    """
    from lmstudio import _ws_impl  # noqa: PLC0415 - only where a proxy is set

    connect = getattr(_ws_impl, "aconnect_ws", None)
    if connect is None or "client" not in inspect.signature(connect).parameters:
        raise ConfigurationError(
            f"lmstudio would go through the proxy for {netloc}",
            hint=f"set NO_PROXY={netloc.rpartition(':')[0]} in the environment",
        )
    if not getattr(connect, "lmbridge_direct", False):
        _ws_impl.aconnect_ws = _directly(connect)  # type: ignore[attr-defined]
    token = _direct.set(True)
    try:
        yield
    finally:
        _direct.reset(token)


def _directly(connect: Callable[..., AbstractAsyncContextManager[Any]]) -> Callable[..., Any]:
    @asynccontextmanager
    async def connect_directly(url: str, client: Any = None, **options: Any) -> AsyncIterator[Any]:
        if client is not None or not _direct.get():
            async with connect(url, client, **options) as socket:
                yield socket
            return
        async with httpx.AsyncClient(trust_env=False) as direct, connect(url, direct, **options) as socket:
            yield socket

    connect_directly.lmbridge_direct = True  # type: ignore[attr-defined]
    connect_directly.lmbridge_limited = getattr(connect, "lmbridge_limited", False)  # type: ignore[attr-defined]
    return connect_directly


#: More than any message of LM Studio has; a server that sends one without end is cut off.
_MESSAGE_LIMIT = 32 * 1024 * 1024


class _Measured:
    """What a socket reads its messages with, and how much of one that is not complete has come."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def events(self) -> Iterator[Any]:
        for event in self._connection.events():
            finished = getattr(event, "message_finished", None)
            self._size = 0 if finished else self._size + len(getattr(event, "data", ""))
            if self._size > _MESSAGE_LIMIT:
                # For the socket this is the end of the connection, as it would be if the server had hung up.
                raise httpcore.ReadError(f"a message of more than {_MESSAGE_LIMIT >> 20} MiB")
            yield event


def limit_messages() -> bool:
    """Have sockets that are opened from now on end at a message that is too large; else memory is the limit.

    Returns:
        ``False`` if this version opens its sockets in another way.
    """
    from lmstudio import _ws_impl  # noqa: PLC0415 - next to its guard

    connect = getattr(_ws_impl, "aconnect_ws", None)
    if connect is None:
        return False
    if not getattr(connect, "lmbridge_limited", False):
        _ws_impl.aconnect_ws = _limited(connect)  # type: ignore[attr-defined]
    return True


def _limited(connect: Callable[..., AbstractAsyncContextManager[Any]]) -> Callable[..., Any]:
    @asynccontextmanager
    async def connect_limited(url: str, client: Any = None, **options: Any) -> AsyncIterator[Any]:
        async with connect(url, client, **options) as socket:
            if hasattr(socket, "connection"):
                socket.connection = _Measured(socket.connection)
            yield socket

    connect_limited.lmbridge_limited = True  # type: ignore[attr-defined]
    connect_limited.lmbridge_direct = getattr(connect, "lmbridge_direct", False)  # type: ignore[attr-defined]
    return connect_limited


def add_fields(stream: Any, fields: Sequence[Field]) -> None:
    """Add fields to the configuration of a prediction that has not begun.

    The SDK drops or refuses what it does not know (seed, penalties, thinking); the server takes it.

    Raises:
        UnsupportedFeature: this version builds its requests in another way.
    """
    if not fields:
        return
    try:
        layer = stream._endpoint.creation_params["predictionConfigStack"]["layers"][0]  # noqa: SLF001
        known = layer["config"]["fields"]
        known.extend({"key": key, "value": value} for key, value in fields)
    except (AttributeError, LookupError, TypeError) as exc:
        keys = [key for key, _ in fields]
        raise UnsupportedFeature(
            f"lmstudio {getattr(lms, '__version__', '?')} no longer has the way to send {', '.join(keys)}",
            features=keys,
            hint="use the provider lmstudio-rest or openai-compat for this, or another version of lmstudio",
        ) from exc


def watch_packets(stream: Any, consume: Callable[[Packet], bool]) -> bool:
    """Show each packet of a prediction to ``consume`` before the SDK reads it.

    The public stream drops tool calls, marks of structural fragments and the details of progress, and raises
    where a packet or value is newer than itself. What ``consume`` returns ``True`` for, the SDK never sees.

    Returns:
        ``False`` if this version reads its packets in another way; then only the public stream is left.
    """
    endpoint = getattr(stream, "_endpoint", None)
    read = getattr(endpoint, "iter_message_events", None)
    if endpoint is None or not callable(read):
        return False

    def watched(packet: Packet) -> Any:
        return () if consume(packet) else read(packet)

    endpoint.iter_message_events = watched
    return True


@asynccontextmanager
async def open_channel(
    session: Any,
    key: str,
    *,
    ttl: int | None,
    config: Any,
    new: bool,
    on_progress: Callable[[float], object],
    on_packet: Callable[[Packet], object],
) -> AsyncIterator[Any]:
    """Begin a load and yield its channel, which has ``cancel()`` and ``wait_for_result()``.

    The public methods send nothing when they are cancelled, and the model ends up loaded.

    Yields:
        ``None`` if this version loads in another way.
    """
    endpoint = _load_endpoint(session, key, ttl=ttl, config=config, new=new, on_progress=on_progress)
    opened = getattr(session, "_create_channel", None)
    if endpoint is None or opened is None:
        yield None
        return
    read = endpoint.iter_message_events

    def watched(packet: Packet) -> Any:
        on_packet(packet)
        return read(packet)

    endpoint.iter_message_events = watched
    # By default it warns, and a process that makes warnings errors would lose the load.
    endpoint.report_unknown_message = lambda packet: _log.debug("unknown packet of a load: %r", packet)
    async with opened(endpoint) as channel:
        yield channel


def _load_endpoint(
    session: Any,
    key: str,
    *,
    ttl: int | None,
    config: Any,
    new: bool,
    on_progress: Callable[[float], object],
) -> Any:
    from lmstudio import json_api  # noqa: PLC0415 - next to its guard

    try:
        types = session._API_TYPES  # noqa: SLF001
        if new:
            return json_api.LoadModelEndpoint(
                key, None, ttl, types.REQUEST_NEW_INSTANCE, types.MODEL_LOAD_CONFIG, config, on_progress
            )
        return json_api.GetOrLoadEndpoint(
            key, ttl, types.REQUEST_GET_OR_LOAD, types.MODEL_LOAD_CONFIG, config, on_progress
        )
    except (AttributeError, TypeError) as exc:
        _log.debug("the load channel has changed: %s", exc)
        return None
