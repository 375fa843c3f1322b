"""The server's side of a WebSocket (RFC 6455), with nothing between the script and the bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmbridge.testing.streams import Incoming

__all__ = ["FrameReader", "WebSocket", "accept_key", "frame"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` for the client's ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one whole, unmasked frame, as servers send it."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + payload


class _Frame(NamedTuple):
    last: bool
    opcode: int
    payload: bytes


class FrameReader:
    """Cuts what a client sends into messages; blocks may end anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._opcode = 0
        self._parts: list[bytes] = []

    def feed(self, block: bytes) -> list[tuple[int, bytes]]:
        """Return the messages, pings and closes that ``block`` completes, each with its opcode."""
        self._rest += block
        messages = []
        while (found := self._next()) is not None:
            if found.opcode >= CLOSE:
                messages.append((found.opcode, found.payload))
                continue
            self._opcode = found.opcode or self._opcode
            self._parts.append(found.payload)
            if found.last:
                messages.append((self._opcode, b"".join(self._parts)))
                self._parts = []
        return messages

    def _next(self) -> _Frame | None:
        data = self._rest
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(data) < at + wide:
                return None
            size, at = int.from_bytes(data[at : at + wide], "big"), at + wide
        key = b"\0\0\0\0"
        if data[1] & 0x80:
            key, at = data[at : at + 4], at + 4
        if len(data) < at + size:
            return None
        self._rest = data[at + size :]
        return _Frame(bool(data[0] & 0x80), data[0] & 0x0F, _unmasked(data[at : at + size], key))


def _unmasked(payload: bytes, key: bytes) -> bytes:
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(payload), "big")


class WebSocket:
    """What a script talks through. The client's messages are kept in the record of the request, too."""

    def __init__(
        self,
        incoming: Incoming,
        send: Callable[[bytes], Awaitable[None]],
        messages: list[str | bytes],
        notify: Callable[[], None],
    ) -> None:
        self._incoming = incoming
        self._send = send
        self._notify = notify
        self._reader = FrameReader()
        self._ready: list[tuple[int, bytes]] = []
        self.messages = messages

    async def receive(self) -> str | bytes:
        """Return the client's next message.

        Raises:
            ConnectionError: the client has closed.
        """
        while True:
            while not self._ready:
                self._ready = self._reader.feed(await self._incoming.read())
            opcode, payload = self._ready.pop(0)
            if opcode == CLOSE:
                await self._send(frame(payload, CLOSE))
                raise ConnectionResetError("the client has closed the WebSocket")
            if opcode == PING:
                await self._send(frame(payload, PONG))
            elif opcode != PONG:
                message = payload.decode() if opcode == TEXT else payload
                self.messages.append(message)
                self._notify()
                return message

    async def receive_json(self) -> Any:
        """Return the client's next message, decoded."""
        return json.loads(await self.receive())

    async def send(self, message: Any) -> None:
        """Send a message: text for a string, binary for ``bytes``, else the value's JSON as text."""
        if isinstance(message, bytes):
            await self._send(frame(message, BINARY))
            return
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        await self._send(frame(text.encode()))

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping, which is a sign of life and no message."""
        await self._send(frame(payload, PING))

    async def close(self, code: int = 1000) -> None:
        """Send the close frame."""
        await self._send(frame(code.to_bytes(2, "big"), CLOSE))
