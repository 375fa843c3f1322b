"""The two directions of one connection: what the client sends, and what faults let through to it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

from lmbridge.testing.faults import Fault, Trigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmbridge.testing.record import Asked

__all__ = ["Dropped", "Ended", "Incoming", "Outgoing"]

_BLOCK = 65536
#: Two ints, of the size that the system wants: on, and 0 seconds.
_NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Dropped(Exception):
    """A fault has ended the connection."""


class Ended(Exception):
    """A fault has ended the body; its proper end is still to be sent."""


class Incoming:
    """What the client sends, by as much as one wants to have."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._rest = b""

    async def read(self) -> bytes:
        """Return some bytes.

        Raises:
            ConnectionError: the client has closed.
        """
        if self._rest:
            block, self._rest = self._rest, b""
            return block
        block = await self._reader.read(_BLOCK)
        if not block:
            raise ConnectionResetError("the client has left")
        return block

    async def until(self, mark: bytes) -> bytes:
        """Return everything up to and with ``mark``."""
        data = b""
        while mark not in data:
            data += await self.read()
        found, _, rest = data.partition(mark)
        self._rest = rest + self._rest
        return found + mark

    async def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        data = b""
        while len(data) < size:
            data += await self.read()
        self._rest = data[size:] + self._rest
        return data[:size]

    async def left(self) -> None:
        """Return when the client has closed; what it sends meanwhile is kept."""
        kept = b""
        try:
            while True:
                kept += await self.read()
        except ConnectionError:
            return
        finally:
            self._rest = kept + self._rest


class Outgoing:
    """What is sent, up to the place where something goes wrong.

    Args:
        writer: of the connection.
        asked: record of the request that is answered.
        fault: tells what is to go wrong now, if anything.
        hang: waits until what hangs is released.
        size: most bytes that are sent at once; ``None``: as they come.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        asked: Asked,
        fault: Callable[[], Fault | None],
        hang: Callable[[], Awaitable[None]],
        size: int | None,
    ) -> None:
        self._writer = writer
        self._asked = asked
        self._fault = fault
        self.hang = hang
        self._size = size
        self._trigger: Trigger | None = None
        self._chunked = False
        #: The end of the body is the end of the connection.
        self.closes = False

    async def head(self, head: bytes, *, chunked: bool, closes: bool = False) -> None:
        """Send status and headers."""
        await self.plain(head)
        self._chunked, self.closes = chunked, closes
        await self.place("head")

    async def end(self) -> None:
        """Tell that the body is whole."""
        if self._chunked:
            await self.plain(b"0\r\n\r\n")
        if self.closes:
            self.close()
            raise Dropped

    async def plain(self, data: bytes) -> None:
        """Send bytes that no fault concerns."""
        self._writer.write(data)
        await self._writer.drain()

    async def place(self, name: str) -> None:
        """Let happen what is to happen at one of the named places."""
        fault = self._fault()
        if fault is not None and fault.at == name:
            trigger = self._trigger_of(fault)
            if trigger.find(b"") is not None:
                await self._happen(trigger)

    async def body(self, block: bytes) -> None:
        """Send a block of the body."""
        # While it hung, another fault may have been set, which concerns the rest of the block.
        while (fault := self._fault()) is not None:
            trigger = self._trigger_of(fault)
            cut = trigger.find(block)
            if cut is None:
                break
            await self._split(block[:cut])
            await self._happen(trigger)
            block = block[cut:]
        await self._split(block)

    def _trigger_of(self, fault: Fault) -> Trigger:
        if self._trigger is None or self._trigger.fault is not fault:
            self._trigger = Trigger(fault, len(self._asked.sent))
        return self._trigger

    async def _split(self, block: bytes) -> None:
        size = self._size or len(block) or 1
        for at in range(0, len(block), size):
            await self._chunk(block[at : at + size])
            await asyncio.sleep(0)  # the loop writes at once what one step of a task gives it

    async def _chunk(self, data: bytes) -> None:
        await self.plain(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self._asked.sent += data

    async def _happen(self, trigger: Trigger) -> None:
        fault = trigger.fault
        match fault.action:
            case "hang":
                await self.hang()
            case "drop":
                self.close(reset=fault.reset)
                raise Dropped
            case "end":
                raise Ended
            case "garbage":
                await self._chunk(fault.data)
            case "flood":
                while True:
                    await self._chunk(fault.data)
                    await asyncio.sleep(0)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection, with a RST if ``reset``."""
        if reset and (sock := self._writer.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._writer.transport.abort()
        else:
            self._writer.close()
