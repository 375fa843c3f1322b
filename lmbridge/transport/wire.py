"""One connection to a server, which carries one exchange after another."""

from __future__ import annotations

import asyncio
import re
import select
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from lmbridge.transport.faults import Broken, CannotConnect, Garbled
from lmbridge.transport.response import Response

if TYPE_CHECKING:
    import socket

__all__ = ["Wire"]

#: A reader that is this many bytes behind makes the server wait.
_HIGH_WATER = 1024 * 1024
#: Most bytes in a row that are no part of a body: a head, chunk extensions, trailers.
_HEAD_LIMIT = 256 * 1024
#: Of a header that is repeated, all values together: joining more takes quadratic time.
_REPEATED_LIMIT = 8 * 1024
_NO_BODY = frozenset({204, 304})
_TIMEOUT = re.compile(r"(?<![\w-])timeout=(\d{1,6})\b", re.IGNORECASE | re.ASCII)


class Wire(asyncio.Protocol):
    """A connection. An exchange is :meth:`ask`, :meth:`head`, :meth:`block` until it is empty; then the next.

    What has arrived is handed out before an error is raised, so that nothing is lost when a server dies.
    """

    __slots__ = (
        "_blocks",
        "_complete",
        "_end",
        "_error",
        "_headers",
        "_loop",
        "_parser",
        "_paused",
        "_reusable",
        "_size",
        "_status",
        "_transport",
        "_unread",
        "_until_eof",
        "_waiter",
        "ended",
        "idle_since",
        "idle_until",
        "on_body",
        "used",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._blocks: list[bytes] = []
        #: The parser calls it with each piece of a body, many times for each token.
        self.on_body = self._blocks.append
        self._waiter: asyncio.Future[None] | None = None
        self._error: ConnectionError | None = None
        self._paused = False
        #: Whether an exchange went over it before.
        self.used = False
        #: While nobody uses it: since when, and when it is too old, by the loop's clock.
        self.idle_since = 0.0
        self.idle_until = 0.0
        #: Done when the connection is gone.
        self.ended: asyncio.Future[None] = loop.create_future()
        self._forget()
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def _forget(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._complete = True  # between two exchanges nothing is due
        self._reusable = True
        self._until_eof = False
        self._end = sys.maxsize  # where the pieces of our answer end
        self._size = 0  # bytes since the reader last took some
        self._unread = 0  # bytes since the last piece of a body

    # -- called by the loop ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; also called again when TLS has begun on it."""
        self._transport = transport  # type: ignore[assignment]  # a stream's protocol gets a stream's transport

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and wake whoever waits for it."""
        if self._complete:
            self.abort()  # nobody has asked for anything
            return
        blocks = self._blocks
        before = len(blocks)
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # it goes with the connection
        except (HttpParserError, HttpParserUpgrade) as exc:
            del blocks[self._end :]
            self._fail(Garbled(f"what the server sent is no HTTP ({exc})"))
            return
        if not self._reusable:
            del blocks[self._end :]
        if len(blocks) == before and not self._complete:
            self._unread += len(data)
            if self._unread > _HEAD_LIMIT:
                self._fail(Garbled(f"the server sent {self._unread:,} bytes of HTTP without any content"))
                return
        else:
            self._unread = 0
            self._size += len(data)
            if self._size > _HIGH_WATER and not self._paused:
                self._paused = True
                self._transport.pause_reading()  # type: ignore[union-attr]  # data comes from a transport
        self._wake()

    def eof_received(self) -> None:
        """Nothing more will come: wake whoever waits now, not when all of a large request is written."""
        self._end_of_data(None)
        self._reusable = False
        self._wake()

    def _end_of_data(self, exc: Exception | None) -> None:
        if self._complete or self._error is not None:
            return
        if self._until_eof and exc is None:
            self._complete = True
            return
        reason = f" ({type(exc).__name__})" if exc is not None else ""
        self._error = Broken(f"the server closed the connection{reason}")
        self._error.__cause__ = exc

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._end_of_data(exc)
        self._parser = self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)
        self._wake()

    # -- called by the parser --------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what follows the body (a trailer) is not looked at."""
        if not self._status:
            key = name.decode("latin-1").lower()
            text = value.decode("latin-1")
            known = self._headers.get(key)
            if known is not None and len(known) > _REPEATED_LIMIT:
                raise ValueError(key)  # the parser makes it an error of its own
            self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Tell the status, unless it is only an interim one (100 Continue, 103 Early Hints)."""
        if self._complete:
            return  # an answer that nobody has asked for must not change the one before it
        headers = self._headers
        status = self._parser.get_status_code()  # type: ignore[union-attr]  # it is the parser that calls
        if status < 200:
            if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                raise ValueError(status)  # the parser would give us its body as that of the answer
            self._headers = {}
            return
        self._status = status
        coding = headers.get("transfer-encoding", "").rpartition(",")[2].strip().lower()
        self._until_eof = "content-length" not in headers and coding != "chunked" and status not in _NO_BODY

    def on_message_begin(self) -> None:
        """Notice an answer that nobody has asked for: its body is none of ours."""
        if self._complete and self._reusable:
            self._reusable = False
            self._end = len(self._blocks)

    def on_message_complete(self) -> None:
        """End the exchange."""
        if self._status:
            self._complete = True
            self._reusable = self._reusable and self._parser.should_keep_alive()  # type: ignore[union-attr]

    # -- called by whoever asks ------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether another exchange can begin.

        Not if a server has answered before it had all of the request: many take what is left of it for the
        next one.
        """
        transport = self._transport
        return (
            self._complete
            and self._reusable
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    @property
    def keepalive(self) -> float | None:
        """Seconds that the server says it keeps an idle connection (``Keep-Alive: timeout=5``)."""
        told = self._headers.get("keep-alive")
        return None if told is None else _timeout_of(told)

    def is_silent(self) -> bool:
        """Whether nothing waits in the socket, the server's end of the connection included.

        A loop that was busy has not looked yet; what it would find makes the next request fail.
        """
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return sock is None or not _is_readable(sock)

    @property
    def transport(self) -> asyncio.Transport:
        """What carries the bytes.

        Raises:
            CannotConnect: it is gone already.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise CannotConnect("the server closed the connection at once")
        return transport

    def ask(self, head: bytes, body: bytes | None) -> None:
        """Begin an exchange. ``head`` ends with the empty line.

        Raises:
            CannotConnect: the connection is gone; nothing was sent.
        """
        transport = self.transport
        self._blocks.clear()
        self._forget()
        self._complete = False
        if body:
            transport.writelines((head, body))
        else:
            transport.write(head)

    async def head(self) -> Response:
        """Wait for the status and the headers.

        Raises:
            Broken: the connection ended before.
            Garbled: this is no HTTP.
        """
        while not self._status:
            if self._error is not None:
                raise _again(self._error)
            await self._wait()
        return Response(self, self._status, self._headers)

    async def block(self) -> bytes:
        """Wait for more of the body and return all that is there; empty at the end.

        Raises:
            Broken: the connection ended before the body did.
            Garbled: this is no HTTP.
        """
        blocks = self._blocks
        while not blocks:
            if self._complete:
                return b""
            if self._error is not None:
                raise _again(self._error)
            await self._wait()
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        blocks.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        return data

    def at_end(self) -> bool:
        """Whether the whole body was handed out."""
        return self._complete and not self._blocks

    def abort(self) -> None:
        """Close the connection now, whatever is under way."""
        if not self._complete and self._error is None:
            self._error = Broken("the connection was closed")  # this is no end of a body
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("two tasks read the same answer")
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: ConnectionError) -> None:
        self._error = error
        self.abort()
        self._wake()


def _again(error: ConnectionError) -> ConnectionError:
    """Return a copy to raise: one that is kept and raised would keep every frame that it went through."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


@lru_cache(maxsize=16)
def _timeout_of(told: str) -> float | None:
    found = _TIMEOUT.search(told)
    return float(found[1]) if found else None


def _is_readable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # has no limit for a socket's number
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
