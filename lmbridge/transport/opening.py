"""How a connection is opened: directly, with TLS, or through a proxy."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lmbridge.transport.faults import CannotConnect, ConnectTimedOut
from lmbridge.transport.racing import connected_socket
from lmbridge.transport.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

__all__ = ["Proxy", "Route", "open_wire"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: name or address, IPv6 without brackets.
        port: of the proxy.
        secure: it is spoken to with TLS.
        authorization: what it is shown, where it needs a user and a password.
    """

    host: str
    port: int
    secure: bool = False
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, address: str) -> Proxy:
        """Return the proxy of an address, ``[http[s]://][user:password@]host[:port]``.

        Raises:
            ValueError: it is no such address. The message does not hold it, for it may hold a password.
        """
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            port = parts.port
        except ValueError:
            raise ValueError("the address of the proxy cannot be read") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("only http and https proxies are supported")
        shown = None
        if parts.username is not None:
            told = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            shown = f"Basic {base64.b64encode(told.encode()).decode('ascii')}"
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", shown)

    @property
    def netloc(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return _netloc(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Route:
    """Where to connect to, and by which way. Connections with the same route can stand for each other.

    Attributes:
        host: name or address, IPv6 without brackets.
        port: of the server.
        secure: with TLS.
        proxy: through which; ``None``: directly.
    """

    host: str
    port: int
    secure: bool = False
    proxy: Proxy | None = None

    @property
    def netloc(self) -> str:
        """``host:port`` as a ``CONNECT`` names it."""
        return _netloc(self.host, self.port)


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_wire(
    route: Route,
    tls: Callable[[], Awaitable[ssl.SSLContext]],
    seconds: float,
    loop: asyncio.AbstractEventLoop,
) -> Wire:
    """Open a connection.

    Args:
        route: where to.
        tls: returns the context for TLS.
        seconds: for all of it together; 0 is without limit.
        loop: the running one.

    Raises:
        ConnectTimedOut: it does not stand in time.
        CannotConnect: it failed; the cause is an ``OSError`` or a ``UnicodeError``.
    """
    proxy = route.proxy
    clock = asyncio.timeout(seconds or None)
    try:
        async with clock:
            context = await tls() if route.secure or (proxy is not None and proxy.secure) else None
            if proxy is None:
                return await _connect(route.host, route.port, context if route.secure else None, loop)
            wire = await _connect(proxy.host, proxy.port, context if proxy.secure else None, loop)
            if not route.secure or context is None:
                return wire
            try:
                return await _tunnel(wire, route, context, loop)
            except BaseException:
                wire.abort()
                raise
    except CannotConnect:
        raise
    except (OSError, UnicodeError) as exc:  # a host name that cannot be written is a UnicodeError
        if isinstance(exc, TimeoutError) and clock.expired():
            raise ConnectTimedOut(f"no connection within {seconds:g} s") from exc
        raise CannotConnect(str(exc) or type(exc).__name__) from exc


async def _connect(
    host: str, port: int, context: ssl.SSLContext | None, loop: asyncio.AbstractEventLoop
) -> Wire:
    if _is_ip(host):
        _, wire = await loop.create_connection(
            lambda: Wire(loop), host, port, ssl=context, server_hostname=_named(host, context)
        )
        return wire
    sock = await connected_socket(host, port, loop)
    _, wire = await loop.create_connection(
        lambda: Wire(loop), sock=sock, ssl=context, server_hostname=_named(host, context)
    )
    return wire


def _is_ip(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


def _named(host: str, context: ssl.SSLContext | None) -> str | None:
    """Return whom a certificate must name: the zone of an IPv6 address is known on this machine only."""
    return None if context is None else host.partition("%")[0]


async def _tunnel(wire: Wire, route: Route, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> Wire:
    """Ask the proxy for a connection to the server, and begin TLS on it."""
    shown = None if route.proxy is None else route.proxy.authorization
    lines = [f"CONNECT {route.netloc} HTTP/1.1", f"Host: {route.netloc}"]
    lines += [f"Proxy-Authorization: {shown}"] if shown else []
    wire.ask("\r\n".join([*lines, "", ""]).encode("ascii"), None)
    response = await wire.head()
    if not 200 <= response.status < 300:
        raise CannotConnect(f"the proxy refused the connection with status {response.status}")
    fresh = Wire(loop)
    named = _named(route.host, context)
    transport = await loop.start_tls(wire.transport, fresh, context, server_hostname=named)
    if transport is None:
        raise CannotConnect("the proxy closed the connection")
    fresh.connection_made(transport)
    return fresh
