"""One client of the SDK for each connection and loop: opened, kept, given up, closed."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import lmstudio as lms
import msgspec

from lmbridge import http
from lmbridge.errors import AuthenticationFailed, ConfigurationError, LMBridgeError, ProtocolError, TimedOut
from lmbridge_lmstudio_sdk import guarded
from lmbridge_lmstudio_sdk.logs import quieten
from lmbridge_lmstudio_sdk.translation import dropped, translate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmbridge.context import Context
    from lmbridge.settings import Connection

__all__ = ["Client", "drop_client", "greet", "open_client", "with_client"]

_T = TypeVar("_T")

_RESOURCE = "client"
_TOKEN = re.compile(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})")
_GREETING_LIMIT = 4096
_OTHERS = "use the provider lmstudio-rest or openai-compat for this address"
#: Closing writes five close frames; a server that does not read them is left behind.
_CLOSE_SECONDS = 0.5
_SESSIONS = 5

quieten()


class Client:
    """An open client of the SDK.

    Its sockets belong to one loop; once the server has dropped one of them the client is dead for good
    (observed), so it is given up and another is opened.

    Attributes:
        sdk: the SDK's own client.
        wanted: how many calls of ours wait for the load of a model, by the model's name: a load that others
            wait for is not cancelled.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._token = _token_of(context.connection)
        self.netloc = _host_of(context.connection)
        self.sdk = self._build()
        self.wanted: Counter[str] = Counter()

    def _build(self) -> lms.AsyncClient:
        guarded.limit_messages()
        if guarded.takes_token():
            # Without a token of ours it would take one from the environment, whatever the address.
            known: dict[str, Any] = {"api_token": "sk-lm-{}:{}".format(*self._token) if self._token else ""}
            client = lms.AsyncClient(self.netloc, **known)
        else:
            client = lms.AsyncClient(self.netloc)
            if self._token:
                guarded.authenticate(client, *self._token)
        guarded.skip_greeting(client)
        return client

    async def __aenter__(self) -> Self:
        await greet(self._context)
        seconds = self._context.timeouts.connect or None
        opening = asyncio.ensure_future(self._open())
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(opening)
        except BaseException as exc:
            opening.cancel()
            with suppress(BaseException):
                await opening
            await self._close()
            if isinstance(exc, TimeoutError) and not isinstance(exc, LMBridgeError):
                raise TimedOut(
                    f"{self.netloc} did not complete the connection within {seconds:g} s",
                    clock="connect",
                    seconds=seconds,
                ) from exc
            if isinstance(exc, Exception | GeneratorExit) and not isinstance(exc, LMBridgeError):
                raise translate(exc, self.netloc) from exc
            raise
        return self

    async def _open(self) -> None:
        async with AsyncExitStack() as stack:
            if _proxied(self._context.connection):
                await stack.enter_async_context(guarded.bypass_proxy(self.netloc))
            await self.sdk.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        """Close the sockets; one that cannot even be written to is abandoned."""
        closing = asyncio.ensure_future(self.sdk.aclose())
        for _ in range(_SESSIONS + 2):
            done, _ = await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
            if done:
                break
            closing.cancel()
        if closing.done() and not closing.cancelled():
            closing.exception()  # a dropped socket may complain once more


async def open_client(context: Context) -> Client:
    """Return the connection's client on this loop.

    Raises:
        LMBridgeError: the address, the token or the server is wrong, or nobody answers.
    """
    return await context.resource(_RESOURCE, lambda: Client(context))


async def drop_client(context: Context, client: Client) -> None:
    """Close a client, so that the next call opens another."""
    await context.discard(_RESOURCE, client)


async def with_client(
    context: Context,
    work: Callable[[Client], Awaitable[_T]],
    *,
    repeatable: Callable[[], bool] = lambda: True,
) -> _T:
    """Do work that the server may safely see twice; a client that turns out to be dead is replaced once.

    Args:
        context: of the call.
        work: gets the client.
        repeatable: asked after a drop: whether the work may begin again.

    Raises:
        BaseException: what the work raises, untranslated.
    """
    client = await open_client(context)
    try:
        return await work(client)
    except Exception as exc:
        if not dropped(exc):
            raise
        await drop_client(context, client)
        if not repeatable():
            raise
    client = await open_client(context)
    try:
        return await work(client)
    except Exception as exc:
        if dropped(exc):
            await drop_client(context, client)
        raise


async def greet(context: Context) -> None:
    """Ask whether LM Studio answers, as the SDK would, but with our clock and with clear errors.

    Raises:
        ProtocolError: something else answers; the message says what.
        TimedOut: nothing answers in time.
        ServerUnreachable: nobody listens.
    """
    where = _host_of(context.connection)
    seconds = context.timeouts.connect or None
    try:
        async with asyncio.timeout(seconds), http.request(context, "GET", "/lmstudio-greeting") as response:
            body = await response.read(_GREETING_LIMIT)
            kind = response.headers.get("server") or response.headers.get("content-type", "")
    except TimeoutError as exc:
        if isinstance(exc, LMBridgeError):
            raise
        raise TimedOut(
            f"{where} took the connection and said nothing for {seconds:g} s",
            clock="connect",
            seconds=seconds,
        ) from exc
    except LMBridgeError as exc:
        if exc.status is None or isinstance(exc, AuthenticationFailed):
            raise
        raise _stranger(where, exc.message) from exc
    _check_greeting(where, body, kind)


def _check_greeting(where: str, body: bytes, kind: str) -> None:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _stranger(where, kind) from None
    if isinstance(said, dict) and said.get("lmstudio"):
        return
    if isinstance(said, dict) and "Unexpected endpoint" in str(said.get("error")):
        raise ProtocolError(
            f"LM Studio at {where} is too old for the SDK", hint="update LM Studio to 0.3.6 or later"
        )
    raise _stranger(where, kind)


def _stranger(where: str, what: str) -> ProtocolError:
    return ProtocolError(
        f"something other than LM Studio answers at {where}: {what}",
        hint="is this LM Studio's port? for other servers use the provider openai-compat",
    )


def _host_of(connection: Connection) -> str:
    """Return ``host:port``: the only form that the SDK takes, and always without encryption."""
    if not connection.base_url:
        raise ConfigurationError(
            "the connection has no address", hint="set its BASE_URL, e.g. 127.0.0.1:1234"
        )
    if connection.base_url.startswith("https:"):
        raise ConfigurationError("the LM Studio SDK speaks no https", hint=_OTHERS)
    if "/" in connection.base_url.partition("://")[2]:
        raise ConfigurationError("the LM Studio SDK takes no address with a path", hint=_OTHERS)
    return connection.netloc


def _token_of(connection: Connection) -> tuple[str, str] | None:
    """Return the halves of the connection's API token."""
    key = connection.api_key.get_secret_value().strip() if connection.api_key else ""
    if not key:
        return None
    match = _TOKEN.fullmatch(key)
    if match is None:
        raise ConfigurationError(
            "the connection's API key is no LM Studio token",
            hint="tokens look like sk-lm-, 8 letters or digits, a colon, 20 letters or digits; "
            "LM Studio's settings make them",
        )
    return match[1], match[2]


def _proxied(connection: Connection) -> bool:
    """Whether the SDK would send the sockets to a server of this machine through a proxy."""
    proxies: dict[str, Any] = urllib.request.getproxies()
    return connection.is_loopback and bool(proxies.get("all") or proxies.get("ws"))
