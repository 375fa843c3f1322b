"""One answer: send the request, decode what comes, see that it ends as it should."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from lmbridge.context import Context
from lmbridge.errors import LMBridgeError, ProtocolError
from lmbridge.events import Event
from lmbridge_openai.decoding import AnswerDecoder
from lmbridge_openai.transports import Answer, Transport

__all__ = ["Prepared", "answer"]

Prepared: TypeAlias = tuple[dict[str, Any], AnswerDecoder]

#: A proper server ends the body right behind its end mark, which frees the connection for the next request.
#: One that does not is waited for this long, then its connection is closed.
_DRAIN_SECONDS = 0.1
_FIELDS = (b"", b"data", b"event", b"id", b"retry")
#: Of an answer that comes as one document; as much as one event of a stream may hold.
_BODY_LIMIT = 16 * 1024 * 1024


async def answer(
    transport: Transport, context: Context, path: str, prepare: Callable[[], Awaitable[Prepared]]
) -> AsyncGenerator[list[Event], None]:
    """Yield the events of an answer, one list for each block that brings any.

    Closing the generator closes the connection, which stops the server.

    Args:
        transport: how to reach the server.
        context: of the hook call.
        path: without the version.
        prepare: makes the body of the request and the decoder for its answer.

    Raises:
        LMBridgeError: after all events that came before it.
    """
    body, decoder = await prepare()
    try:
        async with transport.stream(context, path, body, body.get("model") or None) as reply:
            if not reply.is_stream:
                head = await _head(reply)
                if not _begins_as_events(head):
                    yield decoder.whole(head + await _rest(reply))
                    return
                if events := decoder.feed(head):
                    yield events
            async for block in reply.blocks:
                if events := decoder.feed(block):
                    yield events
                else:
                    context.alive()
                if decoder.done:
                    break
            if decoder.done and not reply.at_end():
                await _drain(reply)
            yield decoder.end()
    except LMBridgeError:
        if left := decoder.left():
            yield left
        raise


async def _head(reply: Answer) -> bytes:
    """Return enough of the body to see what it is, where its type does not say that it is a stream."""
    async for block in reply.blocks:
        if head := block.lstrip():  # white space may come without end, and means nothing
            return head
    return b""


def _begins_as_events(head: bytes) -> bool:
    """Whether the begin of the body may be that of an event stream; a part of a field's name will do."""
    field, colon, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").partition(b":")
    return field in _FIELDS if colon else any(name.startswith(field) for name in _FIELDS)


async def _rest(reply: Answer) -> bytes:
    blocks, size = [], 0
    async for block in reply.blocks:
        size += len(block)
        if size > _BODY_LIMIT:
            raise ProtocolError(f"the answer is larger than {_BODY_LIMIT >> 20} MiB")
        blocks.append(block)
    return b"".join(blocks)


async def _drain(reply: Answer) -> None:
    """Read up to the end of the body, which is due; what comes is no part of the answer."""
    with suppress(TimeoutError, *reply.errors):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in reply.blocks:
                pass
