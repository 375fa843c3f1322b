"""How a connection is opened: directly, with TLS, or through a proxy."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lmbridge.transport.wire import CannotConnect, ConnectTimedOut, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["Route", "open_wire"]

#: Of RFC 8305: how long the first address of a host is tried alone.
_HAPPY_EYEBALLS = 0.25
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """Where to connect to, and by which way. Connections with the same route can stand for each other.

    Attributes:
        host: name or address, IPv6 without brackets.
        port: of the server.
        secure: with TLS.
        proxy: address of an HTTP proxy, with its user and password where it needs them.
    """

    host: str
    port: int
    secure: bool = False
    proxy: str | None = None

    def __repr__(self) -> str:
        return (
            f"Route({self.host!r}, {self.port}, secure={self.secure})"  # a proxy's address holds a password
        )

    @property
    def netloc(self) -> str:
        """``host:port`` as a ``CONNECT`` names it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def proxy_authorization(self) -> str | None:
        """What the proxy is shown, for requests that it forwards itself."""
        parts = urlsplit(self.proxy or "")
        if parts.username is None:
            return None
        told = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return f"Basic {base64.b64encode(told.encode()).decode('ascii')}"


async def open_wire(
    route: Route, tls: Callable[[], ssl.SSLContext], seconds: float, loop: asyncio.AbstractEventLoop
) -> Wire:
    """Open a connection.

    Args:
        route: where to.
        tls: returns the context for TLS; slow at the first call, hence called in a thread.
        seconds: for all of it together; 0 is without limit.
        loop: the running one.

    Raises:
        ConnectTimedOut: it does not stand in time.
        CannotConnect: it failed; the cause is an ``OSError``.
    """
    try:
        async with asyncio.timeout(seconds or None):
            context = await asyncio.to_thread(tls) if route.secure or _is_secure(route.proxy) else None
            if route.proxy is None:
                return await _connect(route.host, route.port, context if route.secure else None, loop)
            return await _through_proxy(route, context, loop)
    except CannotConnect:
        raise
    except TimeoutError as exc:
        raise ConnectTimedOut(f"no connection within {seconds:g} s") from exc
    except (OSError, UnicodeError) as exc:  # a host name that cannot be written is a UnicodeError
        raise CannotConnect(str(exc)) from exc


def _is_secure(proxy: str | None) -> bool:
    return proxy is not None and urlsplit(proxy).scheme == "https"


async def _connect(
    host: str, port: int, context: ssl.SSLContext | None, loop: asyncio.AbstractEventLoop
) -> Wire:
    # A call that is cancelled in the moment in which one of the raced addresses answers leaves its socket to the
    # garbage collector. This machine's own addresses answer at once, so there is nothing to race for.
    delay = None if _is_single(host) else _HAPPY_EYEBALLS
    _, wire = await loop.create_connection(
        lambda: Wire(loop), host, port, ssl=context, happy_eyeballs_delay=delay
    )
    return wire


def _is_single(host: str) -> bool:
    """Whether a host is an IP address, or this machine's own name."""
    return ":" in host or host == "localhost" or host.replace(".", "").isdecimal()


async def _through_proxy(
    route: Route, context: ssl.SSLContext | None, loop: asyncio.AbstractEventLoop
) -> Wire:
    parts = urlsplit(route.proxy or "")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise CannotConnect(
            f"a proxy with {parts.scheme or 'no scheme'} is not supported, only http and https"
        )
    port = parts.port or _PORTS[parts.scheme]
    wire = await _connect(parts.hostname, port, context if _is_secure(route.proxy) else None, loop)
    if not route.secure or context is None:
        return wire
    try:
        return await _tunnel(wire, route, context, loop)
    except BaseException:
        wire.abort()
        raise


async def _tunnel(wire: Wire, route: Route, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> Wire:
    """Ask the proxy for a connection to the server, and begin TLS on it."""
    shown = route.proxy_authorization
    lines = [f"CONNECT {route.netloc} HTTP/1.1", f"Host: {route.netloc}"]
    lines += [f"Proxy-Authorization: {shown}"] if shown else []
    wire.ask("\r\n".join([*lines, "", ""]).encode("latin-1"), None)
    response = await wire.head()
    if response.status != 200:
        raise CannotConnect(f"the proxy refused the connection with status {response.status}")
    fresh = Wire(loop)
    transport = await loop.start_tls(wire.transport, fresh, context, server_hostname=route.host)
    if transport is None:
        raise CannotConnect("the proxy closed the connection")
    fresh.connection_made(transport)
    return fresh
