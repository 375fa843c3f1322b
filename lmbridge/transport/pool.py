"""The connections of one loop: opened when needed, kept for a moment, closed with it."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from lmbridge.transport.faults import Broken, CannotConnect
from lmbridge.transport.opening import Route, open_wire

if TYPE_CHECKING:
    from types import TracebackType

    from lmbridge.transport.response import Response
    from lmbridge.transport.wire import Wire

__all__ = ["Exchange", "Pool"]

#: How long :meth:`Pool.close` waits for connections to end; aborted ones do at once.
_CLOSE_SECONDS = 1.0
#: What a connection is kept for less than the server says: its clock began before ours.
_MARGIN_SECONDS = 1.0
#: In such a time a loop has hardly missed anything. A connection that was idle for longer is looked at
#: before it is used: the loop may have been busy while the server closed it.
_NOTICED_SECONDS = 0.01


class Pool:
    """Connections by route. Any number may be open: what limits calls is the core's own queue.

    Args:
        loop: the one that it serves; nothing here may be used from elsewhere.
        keepalive: seconds that an idle connection is kept; less where the server keeps it for less.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, keepalive: float) -> None:
        self._loop = loop
        self._keepalive = keepalive
        self._idle: dict[Route, list[Wire]] = {}
        self._open: set[Wire] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    def exchange(
        self, route: Route, head: bytes, body: bytes | None, *, seconds: float, repeatable: bool = False
    ) -> Exchange:
        """Return a context manager that sends a request and gives the :class:`Response`.

        Leaving it before the body is read closes the connection, which is how servers learn that nobody wants
        the rest.

        Args:
            route: where to.
            head: of the request, with its empty line.
            body: what follows.
            seconds: to open a connection in; 0 is without limit.
            repeatable: the request may be sent twice (GET): then a kept connection that turns out to be dead
                costs nothing.
        """
        return Exchange(self, route, head, body, seconds, repeatable=repeatable)

    async def take(self, route: Route, seconds: float) -> Wire:
        """Return an idle connection, else a new one; errors as :meth:`open`."""
        return self.take_idle(route) or await self.open(route, seconds)

    async def open(self, route: Route, seconds: float) -> Wire:
        """Return a new connection.

        Raises:
            ConnectTimedOut: it does not stand in time.
            CannotConnect: it failed, or the pool is closed.
        """
        self._check_open()
        wire = await open_wire(route, self._tls_context, seconds, self._loop)
        self._open.add(wire)
        wire.ended.add_done_callback(lambda _: self._open.discard(wire))
        try:
            self._check_open()
        except CannotConnect:
            wire.abort()
            raise
        return wire

    def _check_open(self) -> None:
        if self._closed:
            raise CannotConnect("the pool was closed")

    def take_idle(self, route: Route) -> Wire | None:
        """Return the connection that was used last, if one can still be used."""
        idle = self._idle.get(route)
        now = self._loop.time()
        while idle:
            wire = idle.pop()
            noticed = now - wire.idle_since < _NOTICED_SECONDS
            if wire.idle_until >= now and wire.usable and (noticed or wire.is_silent()):
                return wire
            wire.abort()
        return None

    def give_back(self, route: Route, wire: Wire) -> None:
        """Keep a connection whose answer was read, and close any other."""
        told = wire.keepalive
        seconds = self._keepalive if told is None else min(self._keepalive, told - _MARGIN_SECONDS)
        if self._closed or seconds <= 0 or not wire.usable:
            wire.abort()
            return
        wire.used = True
        wire.idle_since = now = self._loop.time()
        wire.idle_until = now + seconds
        self._idle.setdefault(route, []).append(wire)
        if self._sweep is None:
            self._sweep = self._loop.call_at(wire.idle_until, self._close_old)

    def _close_old(self) -> None:
        """Close what was idle for too long; comes back while anything is."""
        # A timer may come early by the resolution of the loop's clock, which is 16 ms on Windows.
        now = self._loop.time() if self._sweep is None else max(self._loop.time(), self._sweep.when())
        left: dict[Route, list[Wire]] = {}
        for route, wires in self._idle.items():
            for wire in wires:
                if wire.idle_until > now and wire.usable:
                    left.setdefault(route, []).append(wire)
                else:
                    wire.abort()
        self._idle = left
        first = min((wire.idle_until for wires in left.values() for wire in wires), default=None)
        self._sweep = None if first is None else self._loop.call_at(first, self._close_old)

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(_make_tls_context)
        return self._tls

    async def close(self) -> None:
        """Close every connection and wait until they are gone. Idempotent; nothing can be opened any more."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        wires = list(self._open)
        for wire in wires:
            wire.abort()
        if wires:
            await asyncio.wait([wire.ended for wire in wires], timeout=_CLOSE_SECONDS)


def _make_tls_context() -> ssl.SSLContext:
    """Read the certificates that this machine trusts; takes tens of milliseconds."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Exchange:
    """A request and its answer; see :meth:`Pool.exchange`."""

    __slots__ = ("_body", "_head", "_pool", "_repeatable", "_response", "_route", "_seconds", "_wire")

    def __init__(
        self, pool: Pool, route: Route, head: bytes, body: bytes | None, seconds: float, *, repeatable: bool
    ) -> None:
        self._pool = pool
        self._route = route
        self._head = head
        self._body = body
        self._seconds = seconds
        self._repeatable = repeatable

    async def __aenter__(self) -> Response:
        pool, route = self._pool, self._route
        self._wire = wire = pool.take_idle(route) or await pool.open(route, self._seconds)
        try:
            response = await self._sent(wire)
        except Broken:
            if not (wire.used and self._repeatable):
                raise
            # A new one: the server may have dropped every connection that was kept.
            self._wire = wire = await pool.open(route, self._seconds)
            response = await self._sent(wire)
        self._response = response
        self._body = None  # it may hold pictures, and an answer takes minutes
        return response

    async def _sent(self, wire: Wire) -> Response:
        try:
            wire.ask(self._head, self._body)
            return await wire.head()
        except BaseException:
            wire.abort()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        wire = self._wire
        self._response.leave()
        if wire.at_end():
            self._pool.give_back(self._route, wire)
        else:
            wire.abort()
