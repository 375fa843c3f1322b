"""The answer to a request, as whoever asked reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmbridge.transport.faults import Broken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from lmbridge.transport.wire import Wire

__all__ = ["Response"]


class _Left:
    """In the place of a connection that its answer must not read from any more."""

    def __init__(self, *, ended: bool) -> None:
        self._ended = ended

    async def block(self) -> bytes:
        if not self._ended:
            raise Broken("the answer is read after its request was left")
        return b""

    def at_end(self) -> bool:
        return self._ended


_READ = _Left(ended=True)
_ABANDONED = _Left(ended=False)


class Response:
    """An answer whose body is still coming; iterate it for the body, in blocks as they arrive.

    Attributes:
        status: the HTTP status.
        headers: by name in lower case; a repeated header's values are joined by commas.
    """

    __slots__ = ("_wire", "headers", "status")

    def __init__(self, wire: Wire, status: int, headers: Mapping[str, str]) -> None:
        self._wire: Wire | _Left = wire
        self.status = status
        self.headers = headers

    def leave(self) -> None:
        """Let go of the connection: it may serve another request, whose answer is none of ours."""
        self._wire = _READ if self._wire.at_end() else _ABANDONED

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        block = await self._wire.block()
        if block:
            return block
        raise StopAsyncIteration

    async def block(self) -> bytes:
        """Wait for more of the body and return all that is there; empty at the end.

        Raises:
            Broken: the connection ended before the body did.
            Garbled: what came is no HTTP.
        """
        return await self._wire.block()

    async def read(self, limit: int) -> bytes:
        """Return the rest of the body, or its first ``limit`` bytes; errors as :meth:`block`."""
        body = bytearray()
        while len(body) < limit and (block := await self._wire.block()):
            body += block
        return bytes(body[:limit])

    def at_end(self) -> bool:
        """Whether the body was read to its end, so that the connection serves the next request."""
        return self._wire.at_end()
