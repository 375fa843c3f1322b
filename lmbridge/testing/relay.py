"""Passing a request on to a working server, so that faults can happen to its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lmbridge.testing.streams import Incoming
from lmbridge.testing.websocket import CLOSE, TEXT, FrameReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lmbridge.testing.record import Asked
    from lmbridge.testing.streams import Outgoing

__all__ = ["relay_http", "relay_websocket"]

#: Headers that concern one connection, not the request or the answer itself.
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host", "accept-encoding"}


def _head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = (f"{name}: {value}" for name, value in headers)
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


async def relay_http(upstream: str, asked: Asked, outgoing: Outgoing) -> None:
    """Ask ``upstream`` the same, and send its answer on block by block.

    Raises:
        ConnectionError: the server could not be reached, or broke off.
    """
    import aiohttp  # noqa: PLC0415 - scripted servers do without

    headers = {name: value for name, value in asked.headers.items() if name not in _HOP}
    await outgoing.place("request")
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        try:
            async with session.request(
                asked.method, upstream + asked.path, data=asked.body or None, headers=headers
            ) as response:
                kept = [(name, value) for name, value in response.headers.items() if name.lower() not in _HOP]
                head = _head(
                    f"HTTP/1.1 {response.status} {response.reason}", [*kept, ("Transfer-Encoding", "chunked")]
                )
                await outgoing.head(head, chunked=True)
                async for block in response.content.iter_any():
                    await outgoing.body(block)
        except aiohttp.ClientError as exc:
            raise ConnectionAbortedError(f"{upstream}: {exc}") from exc


async def relay_websocket(
    upstream: str, asked: Asked, incoming: Incoming, outgoing: Outgoing, notify: Callable[[], None]
) -> None:
    """Open the same WebSocket at ``upstream`` and pass the bytes on, both ways, until one side closes.

    Raises:
        ConnectionError: one side has closed, or the server could not be reached.
    """
    address = urlsplit(upstream)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        headers = {**asked.headers, "host": address.netloc}
        headers.pop("sec-websocket-extensions", None)  # compressed, its frames could not be looked into
        writer.write(_head(f"GET {asked.path} HTTP/1.1", headers.items()))
        answer = Incoming(reader)
        await outgoing.head(await answer.until(b"\r\n\r\n"), chunked=False)
        await _first_to_end(_up(asked, incoming, writer, notify), _down(answer, outgoing))
    finally:
        writer.close()


async def _up(
    asked: Asked, incoming: Incoming, writer: asyncio.StreamWriter, notify: Callable[[], None]
) -> None:
    frames = FrameReader()
    while True:
        block = await incoming.read()
        for opcode, payload in frames.feed(block):
            if opcode < CLOSE:
                asked.messages.append(payload.decode() if opcode == TEXT else payload)
        notify()
        writer.write(block)
        await writer.drain()


async def _down(answer: Incoming, outgoing: Outgoing) -> None:
    while True:
        await outgoing.body(await answer.read())


async def _first_to_end(*works: object) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
