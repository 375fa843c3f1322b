"""``POST /api/v1/chat`` with ``stream: true``."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lmbridge import failures, http
from lmbridge.errors import LMBridgeError, ProtocolError
from lmbridge.sse import SSEDecoder

from .decoding import ChatDecoder
from .encoding import encode
from .refusals import explained
from .versions import STRANGER
from .wire import as_whole, decode_object

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from lmbridge.chat import Request
    from lmbridge.context import Context
    from lmbridge.events import Event

__all__ = ["stream"]

_PATH = "/api/v1/chat"
#: Bound of the second request that asks a silent failure for its reason.
_REASON_SECONDS = 10.0
#: For the rest of the body behind ``chat.end``, so that the connection can be used again. Some builds
#: never send it (observed by third-party clients), so this is all that is waited.
_REST_SECONDS = 0.02
#: Of an answer that comes as one document; as much as one event of a stream may hold.
_BODY_LIMIT = 16 * 1024 * 1024


async def stream(request: Request, context: Context) -> AsyncGenerator[list[Event], None]:
    """Yield the events of one answer, one list for each block that the network delivers.

    Raises:
        LMBridgeError: see :meth:`lmbridge.hookspecs.HookSpecs.stream`.
    """
    body = await encode(request, context)
    decoder = ChatDecoder(context, model=request.model, max_tokens=as_whole(body.get("max_output_tokens")))
    received, ended = SSEDecoder(), False
    events: list[Event] = []
    try:
        async with http.request(context, "POST", _PATH, body=body, model=request.model) as response:
            block = await response.block()
            if _is_document(block):
                events, ended = await _document(block, response, decoder), True
            while block and not ended:
                ended = decoder.feed(received.feed(block), events)
                if events:  # before the end is looked at: somebody waits for the text
                    yield events
                    events = []
                elif not ended:
                    context.alive()
                if not ended:
                    block = await response.block()
            ended = ended or _take_last(received, decoder, events)
            await _read_rest(response)
        if not ended:
            raise await _broken_off(decoder, body, context)
        events += decoder.ending()
    except LMBridgeError as exc:
        events += decoder.close_text()  # what was held back because it might have become a tag
        if events:
            yield events
        error = await explained(exc, context)
        if error is exc:
            raise
        raise error from exc
    yield events


def _is_document(block: bytes) -> bool:
    """Whether the answer is JSON or a page, not an event stream."""
    return block.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"<"}


async def _document(block: bytes, response: http.Response, decoder: ChatDecoder) -> list[Event]:
    """Read an answer that is no stream: an error, or everything at once.

    LM Studio answers a route that it does not know with status 200 and ``{"error": "…"}`` (observed,
    lmstudio-bug-tracker#1879).
    """
    body = bytearray(block)
    while more := await response.block():
        body += more
        if len(body) > _BODY_LIMIT:
            raise ProtocolError(f"the answer is larger than {_BODY_LIMIT >> 20} MiB")
    try:
        payload = decode_object(bytes(body))
    except ProtocolError as exc:
        if body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
            raise failures.from_body(response.status, bytes(body), response.headers) from exc
        raise ProtocolError("the answer is not JSON", hint=STRANGER) from exc
    if (error := failures.error_in(payload)) is not None:
        raise error
    if "output" not in payload:
        raise ProtocolError("the answer is not what LM Studio sends", hint=STRANGER)
    decoder.end_with(payload)
    return []


def _take_last(received: SSEDecoder, decoder: ChatDecoder, events: list[Event]) -> bool:
    """Take an event whose closing blank line did not come; it counts if its JSON is whole."""
    last = received.close()
    if last is None:
        return False
    with suppress(ProtocolError):
        return decoder.feed([last], events)
    return False


async def _read_rest(response: http.Response) -> None:
    """Read what follows the answer. How the connection ends does not matter any more."""
    if response.at_end():
        return
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(_REST_SECONDS):
            while not response.at_end():
                await response.block()


async def _broken_off(decoder: ChatDecoder, body: Mapping[str, Any], context: Context) -> LMBridgeError:
    """Return the error for a stream that ended without ``chat.end``."""
    reason = await _reason(body, context) if decoder.silent else None
    return reason or ProtocolError(
        "LM Studio ended the stream without its end mark (chat.end)",
        hint="the model may have crashed or been unloaded; LM Studio's log tells",
        retryable=True,
    )


async def _reason(body: Mapping[str, Any], context: Context) -> LMBridgeError | None:
    """Ask why a stream ended after a bare ``chat.start``.

    The reason only shows when the request is repeated without ``stream`` (observed by third-party clients).
    The repetition may generate one token, is not stored and is given up after some seconds, so that a server
    which now succeeds does not do the work again.
    """
    question = {**body, "stream": False, "store": False, "max_output_tokens": 1}
    try:
        async with asyncio.timeout(_REASON_SECONDS):
            await http.post_json(context, _PATH, question, model=str(body["model"]))
    except TimeoutError:
        return None
    except LMBridgeError as exc:
        return exc
    return None
