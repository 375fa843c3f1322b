"""The connections of one loop: opened when needed, kept for a moment, closed with it."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from lmbridge.transport.opening import Route, open_wire
from lmbridge.transport.wire import Broken

if TYPE_CHECKING:
    from types import TracebackType

    from lmbridge.transport.wire import Response, Wire

__all__ = ["Exchange", "Pool"]

#: How long :meth:`Pool.close` waits for connections to end; aborted ones do at once.
_CLOSE_SECONDS = 1.0


class Pool:
    """Connections by route. Any number may be open: what limits calls is the core's own queue.

    Args:
        loop: the one that it serves; nothing here may be used from elsewhere.
        keepalive: seconds that an idle connection is kept.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, keepalive: float) -> None:
        self._loop = loop
        self._keepalive = keepalive
        self._idle: dict[Route, list[Wire]] = {}
        self._open: set[Wire] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

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
        """Return an idle connection, else a new one."""
        if (wire := self.take_idle(route)) is not None:
            return wire
        wire = await open_wire(route, self._tls_context, seconds, self._loop)
        self._open.add(wire)
        wire.ended.add_done_callback(lambda _: self._open.discard(wire))
        return wire

    def take_idle(self, route: Route) -> Wire | None:
        """Return the connection that was used last, if one can still be used."""
        idle = self._idle.get(route)
        oldest = self._loop.time() - self._keepalive
        while idle:
            wire = idle.pop()
            if wire.idle_since >= oldest and wire.usable:
                return wire
            wire.abort()
        return None

    def give_back(self, route: Route, wire: Wire) -> None:
        """Keep a connection whose answer was read, and close any other."""
        if not wire.usable:
            wire.abort()
            return
        wire.used = True
        wire.idle_since = self._loop.time()
        self._idle.setdefault(route, []).append(wire)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive, self._close_old)

    def _close_old(self) -> None:
        """Close what was idle for too long; comes back while anything is."""
        now = self._loop.time()
        oldest = now - self._keepalive
        left = {}
        for route, wires in self._idle.items():
            for wire in wires:
                if wire.idle_since < oldest or not wire.usable:
                    wire.abort()
            if kept := [wire for wire in wires if wire.idle_since >= oldest and wire.usable]:
                left[route] = kept
        self._idle = left
        first = min((wire.idle_since for wires in left.values() for wire in wires), default=None)
        self._sweep = None if first is None else self._loop.call_at(first + self._keepalive, self._close_old)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls

    async def close(self) -> None:
        """Close every connection and wait until they are gone."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        wires = list(self._open)
        for wire in wires:
            wire.abort()
        if wires:
            await asyncio.wait([wire.ended for wire in wires], timeout=_CLOSE_SECONDS)


class Exchange:
    """A request and its answer; see :meth:`Pool.exchange`."""

    __slots__ = ("_body", "_head", "_pool", "_repeatable", "_route", "_seconds", "_wire")

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
        self._wire = wire = pool.take_idle(route) or await pool.take(route, self._seconds)
        try:
            return await self._sent(wire)
        except Broken:
            if not (wire.used and self._repeatable):
                raise
        self._wire = wire = await pool.take(route, self._seconds)
        return await self._sent(wire)

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
        if wire.at_end():
            self._pool.give_back(self._route, wire)
        else:
            wire.abort()
