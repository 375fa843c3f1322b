"""One connection of a fault server: requests in, answers out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmbridge.testing.record import Asked
from lmbridge.testing.relay import relay_http, relay_websocket
from lmbridge.testing.replies import Reply, SocketScript
from lmbridge.testing.streams import Dropped, Ended, Incoming, Outgoing
from lmbridge.testing.websocket import WebSocket, accept_key

if TYPE_CHECKING:
    from lmbridge.testing.desk import Desk

__all__ = ["serve"]

_NOT_FOUND = Reply.json({"error": "no such route"}, status=404)


async def serve(desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection to its end. What a script raises is kept in ``desk.errors``."""
    desk.connected(1)
    incoming = Incoming(reader)
    try:
        await _not_read(desk, incoming)
        while await _exchange(desk, incoming, writer):
            pass
    except (ConnectionError, Dropped):
        pass
    except asyncio.CancelledError:
        pass  # the server closes
    except Exception as exc:  # noqa: BLE001 - a bug of a script must fail the test, not this thread
        desk.errors.append(exc)
    finally:
        writer.close()
        desk.connected(-1)


async def _not_read(desk: Desk, incoming: Incoming) -> None:
    fault = desk.fault
    if fault is None or fault.at != "accept":
        return
    if fault.action != "hang":
        raise Dropped
    await _unless_left(desk.hang(), incoming)


async def _unless_left(work: object, incoming: Incoming) -> None:
    """Finish ``work``, or cancel it when the client leaves.

    Raises:
        ConnectionError: the client has left first.
    """
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    watch = asyncio.ensure_future(incoming.left())
    try:
        done, _ = await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for item in (task, watch):
            item.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
    if task not in done:
        raise ConnectionResetError("the client has left")
    task.result()


async def _exchange(desk: Desk, incoming: Incoming, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; return whether the connection can be used for another."""
    asked = await _read(incoming)
    desk.took(asked)
    outgoing = Outgoing(writer, asked, lambda: desk.fault_for(asked), desk.hang, desk.block_size)
    try:
        if asked.headers.get("upgrade", "").casefold() == "websocket":
            await _talk(desk, asked, incoming, outgoing)
        else:
            await _unless_left(_answer(desk, asked, outgoing), incoming)
    except ConnectionError:
        asked.left = True
        raise
    finally:
        desk.waiting.changed()
    return asked.headers.get("connection", "").casefold() != "close"


async def _read(incoming: Incoming) -> Asked:
    first, *lines = (await incoming.until(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    asked = Asked(method, path, {name.strip().lower(): value.strip() for name, _, value in pairs})
    if asked.headers.get("transfer-encoding", "").casefold() == "chunked":
        asked.body = await _chunks(incoming)
    else:
        asked.body = await incoming.exactly(int(asked.headers.get("content-length", 0)))
    return asked


async def _chunks(incoming: Incoming) -> bytes:
    body = b""
    while size := int((await incoming.until(b"\r\n")).split(b";")[0], 16):
        body += await incoming.exactly(size)
        await incoming.exactly(2)
    await incoming.until(b"\r\n")
    return body


async def _answer(desk: Desk, asked: Asked, outgoing: Outgoing) -> None:
    reply = desk.reply(asked)
    try:
        if reply is None and desk.upstream:
            await relay_http(desk.upstream, asked, outgoing)
        else:
            await _play(reply or _NOT_FOUND, outgoing)
    except Ended:
        pass
    await outgoing.end()
    asked.answered = True


async def _play(reply: Reply, outgoing: Outgoing) -> None:
    await outgoing.place("request")
    if reply.bare:
        outgoing.closes = True
    else:
        await outgoing.head(reply.head(), chunked=reply.framing == "chunked", closes=reply.framing == "close")
    for block in reply.blocks:
        await outgoing.body(block)


async def _talk(desk: Desk, asked: Asked, incoming: Incoming, outgoing: Outgoing) -> None:
    reply = desk.reply(asked)
    if reply is None and desk.upstream:
        await _unless_left(outgoing.place("request"), incoming)
        await relay_websocket(desk.upstream, asked, incoming, outgoing, desk.waiting.changed)
    elif reply is None or reply.script is None:
        await _unless_left(_answer(desk, asked, outgoing), incoming)
    else:
        # The script itself reads, but not while it sends.
        outgoing.hang = lambda: _unless_left(desk.hang(), incoming)
        await _run(reply.script, desk, asked, incoming, outgoing)
    raise Dropped  # neither is of use for another request


async def _run(
    script: SocketScript, desk: Desk, asked: Asked, incoming: Incoming, outgoing: Outgoing
) -> None:
    await outgoing.place("request")
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(asked.headers['sec-websocket-key'])}",
    ]
    await outgoing.head("\r\n".join([*lines, "", ""]).encode(), chunked=False)
    await script(WebSocket(incoming, outgoing.body, asked.messages, desk.waiting.changed))
    asked.answered = True
