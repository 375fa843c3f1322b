"""The fault server: a scriptable server that also misbehaves on command."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lmbridge.testing.connection import serve
from lmbridge.testing.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lmbridge.testing.desk import Answer
    from lmbridge.testing.faults import Fault
    from lmbridge.testing.record import Asked

__all__ = ["FaultServer"]

_T = TypeVar("_T")

#: Seconds that a wait may take by default: far more than any machine needs, only a mistake meets it.
PATIENCE = 30.0
_STALL_AT_MOST = 300


class FaultServer:
    """A server on a free loopback port that answers as it is told, and fails as it is told.

    It speaks HTTP/1.1 and WebSocket, and runs on a thread of its own: a client that blocks its loop does not
    block the server, and any loop may use it, or none::

        async with FaultServer() as server:
            server.on("POST /chat", Reply.ndjson({"text": "Ahoy"}, {"done": "stop"}))
            server.fail(Fault.drop(at=b"Ahoy"))

    Args:
        upstream: address of a working server, which answers what has no reply here; its answers meet the
            same faults.

    Raises:
        Exception: on leaving, the first thing that a script has raised.
    """

    def __init__(self, upstream: str | None = None) -> None:
        self._desk = Desk(upstream)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="lmbridge fault server", daemon=True)
        self._listener: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._stalled: list[socket.socket] = []
        self._port = 0

    # -- what it does ----------------------------------------------------------------------------------

    def on(self, route: str, *answers: Answer) -> Self:
        """Say what is answered to requests of ``route``.

        Args:
            route: method and path without the query, ``"POST /chat"``; ``*`` stands for anything. Of several
                that fit, the one that was said last counts.
            answers: :class:`Reply` objects, or functions that make one of the :class:`Asked`; one for each
                request, the last one again and again.
        """
        if not answers:
            raise ValueError(f"no answer for {route!r} was given")
        self._desk.on(route, answers)
        return self

    def fail(self, fault: Fault | None) -> None:
        """Have this go wrong from now on, also with answers under way; ``None``: nothing any more."""
        self._desk.fault = fault

    def release(self, then: Fault | None = None) -> None:
        """Let every answer that hangs go on, and only ``then`` go wrong from there.

        A server that is slow at certain places hangs there, one after the other.
        """
        self._desk.fault = then
        self._loop.call_soon_threadsafe(self._desk.release)

    def give_up(self) -> None:
        """End all connections."""
        self._desk.fault = None
        self._loop.call_soon_threadsafe(self._cancel_all)

    @property
    def block_size(self) -> int | None:
        """Most bytes of a body that are written at once, each time as a chunk or packet of their own."""
        return self._desk.block_size

    @block_size.setter
    def block_size(self, size: int | None) -> None:
        self._desk.block_size = size

    async def refuse(self) -> None:
        """Close the port: new connections are refused by the system; those that are open stay."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close_listener(), self._loop))

    async def stall(self) -> bool:
        """Have new connections wait for ever: nobody accepts them, and the system's queue is full.

        Returns:
            whether the system can be brought to that (Linux can).
        """
        await self.refuse()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(0)
        self._stalled.append(listener)
        for _ in range(_STALL_AT_MOST):
            client = socket.socket()
            client.setblocking(False)
            self._stalled.append(client)
            client.connect_ex(("127.0.0.1", self._port))
            if not select.select([], [client], [], 0)[1]:
                return True  # on loopback a connection stands at once, or not at all
        return False

    @property
    def has_upstream(self) -> bool:
        """Whether another server answers what has no reply here."""
        return self._desk.upstream is not None

    # -- what it has seen ------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[Asked, ...]:
        """Every request so far, oldest first."""
        return tuple(self._desk.requests)

    def find(self, route: str = "*") -> tuple[Asked, ...]:
        """Return the requests of ``route``, where ``*`` stands for anything."""
        return tuple(asked for asked in self.requests if fnmatchcase(asked.route, route))

    def describe(self) -> str:
        """Return in one sentence what it has seen."""
        return self._desk.describe()

    def forget(self) -> None:
        """Forget the requests so far."""
        self._desk.requests.clear()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return self._desk.open

    @property
    def hanging(self) -> int:
        """Answers that hang now because of a fault."""
        return len(self._desk.hanging)

    def look(self) -> None:
        """Have the conditions that somebody waits for looked at, because something else has changed."""
        self._desk.waiting.changed()

    @property
    def hung(self) -> int:
        """How often an answer has begun to hang."""
        return self._desk.hung

    def wait_for(self, condition: Callable[[], _T], seconds: float = PATIENCE) -> _T:
        """Block until ``condition`` is true, and return its value. It is looked at when something happens.

        Raises:
            TimeoutError: it did not become true; the text says what the server has seen.
        """
        return self._desk.waiting.wait(condition, seconds, self._desk.describe)

    async def until(self, condition: Callable[[], _T], seconds: float = PATIENCE) -> _T:
        """Wait as :meth:`wait_for` does, in a loop."""
        return await self._desk.waiting.until(condition, seconds, self._desk.describe)

    # -- where it is -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Its address, e.g. ``http://127.0.0.1:40123``."""
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for item in self._stalled:
            item.close()
        if kind is None and self._desk.errors:
            raise self._desk.errors[0]

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        await asyncio.to_thread(self.__exit__, kind, *exc_info)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _open(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server makes one for each connection
        self._serving.add(task)
        try:
            await serve(self._desk, reader, writer)
        finally:
            self._serving.discard(task)

    async def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _cancel_all(self) -> None:
        for task in self._serving:
            task.cancel()

    async def _close(self) -> None:
        await self._close_listener()
        self._cancel_all()
        await asyncio.gather(*self._serving, return_exceptions=True)
