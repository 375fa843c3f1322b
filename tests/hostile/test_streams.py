"""Answers that begin well: cut, garbled, without end, or without any measure."""

import asyncio
import gc
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from lmbridge import Message, ProtocolError, Request, ServerError, ServerUnreachable, TimedOut, Timeouts
from lmbridge.testing import Fault, Reply, frame

MIB = 1024 * 1024


def asking(text: str = "hi", **clocks: float) -> Request:
    return Request(model="m", messages=[Message.user(text)], timeouts=Timeouts(**clocks))


@pytest.fixture
def peak() -> Iterator[list[int]]:
    """The most memory that Python had at once during the test, in bytes, once the test has ended."""
    gc.collect()
    measured: list[int] = []
    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield measured
        measured.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert measured[0] < 150 * MIB, f"{measured[0] / MIB:.0f} MiB"


# -- cut ---------------------------------------------------------------------------------------------------

#: What follows the first whole event, and where it is cut.
CUTS = {
    "within an event": (" wor", b" w"),
    "within a UTF-8 sequence": ("caf\u00e9", b"caf\xc3"),
    "within a JSON escape": ('a"b', b"a\\"),
    "between two events": ("", b"\n\n"),
    "within the name of a field": ("", b"\n\nda"),
}


@pytest.mark.parametrize("how", ["drop", "end"])
@pytest.mark.parametrize("name", CUTS)
async def test_a_stream_that_is_cut(http_target, faulty, meet, name, how):
    more, place = CUTS[name]
    first = http_target.delta("Hello")
    blocks = (first, http_target.delta(more)) if more else (first.replace(b"\n\n", place), b"ta: x\n\n")
    server = await faulty(http_target, *blocks, http_target.end())
    server.fail(getattr(Fault, how)(place, route="POST *"))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError), met.error
    assert met.error.retryable
    assert met.text == "Hello"


async def test_a_reset_in_the_middle(http_target, faulty, meet):
    """What the system has not delivered yet is gone with it, so only the order of things is certain."""
    server = await faulty(http_target, http_target.delta("Hello"), http_target.delta("lost"))
    server.fail(Fault.drop(b"Hello", reset=True, route="POST *"))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError | ServerUnreachable), met.error
    assert met.text in {"", "Hello"}


async def test_a_body_that_is_shorter_than_its_length(http_target, faulty, meet):
    server = await faulty(http_target)
    body = http_target.delta("Hello")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body) + 99}\r\n\r\n"
    server.on("POST *", Reply.raw(head.encode() + body))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError), met.error
    assert met.text == "Hello"


async def test_chunks_that_are_none_after_the_first(http_target, faulty, meet):
    server = await faulty(http_target)
    body = http_target.delta("Hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.on("POST *", Reply.raw(head + f"{len(body):x}\r\n".encode() + body + b"\r\n", b"Ahoy\r\n"))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError), met.error
    assert met.text in {"", "Hello"}


GARBLED = {
    "half of a JSON": b'data: {"choices": [{"delta": {"content": "x\n\n',
    "no JSON": b"data: oops\n\n",
    "deep nesting": b'data: {"choices": ' + b"[" * 100_000 + b"\n\n",
    "a deep object": b'data: {"error": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001 + b"\n\n",
    "a huge number": b'data: {"choices": [{"index": 1' + b"0" * 5000 + b', "delta": {"content": "x"}}]}\n\n',
    "a number beyond all": b'data: {"type": "x", "choices": [{"delta": {"content": 1e999}}]}\n\n',
    "bytes that are no UTF-8": b'data: {"type": "message.delta", "content": "\xff\xfe", "choices": 7}\n\n',
    "NUL bytes": b"data: \0\0\0\n\n",
    "an error": b'event: error\ndata: {"error": {"message": "the GPU is on fire"}}\n\n',
    "a web page": b"<html><title>Bad Gateway</title></html>\n\n",
}


@pytest.mark.parametrize("name", GARBLED)
async def test_an_event_that_is_none(http_target, faulty, make_place, fails, name):
    """It is an error after what came before it, unless the provider can tell that nothing is lost."""
    server = await faulty(http_target, http_target.delta("Hello"), GARBLED[name], http_target.end())
    bridge, text = make_place(http_target, server.url), ""
    try:
        async with bridge.stream("place", asking()) as events:
            async for event in events:
                text += getattr(event, "text", "")
    except Exception as exc:  # noqa: BLE001 - any class is looked at
        fails(exc, ProtocolError | ServerError)
    assert text.startswith("Hello")


# -- without measure ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("peak")
async def test_a_line_without_end(http_target, faulty, meet):
    server = await faulty(http_target, http_target.delta("Hello"))
    server.fail(Fault.flood(b"x" * MIB, b"Hello", route="POST *"))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError), met.error
    assert "bytes" in met.error.message
    assert await server.until(lambda: server.find("POST *")[-1].left)


@pytest.mark.usefixtures("peak")
async def test_lines_of_one_event_without_end(http_target, faulty, meet):
    server = await faulty(http_target, b"event: x\ndata: 1\n")
    server.fail(Fault.flood(b"data: " + b"y" * 1000 + b"\n", 4, route="POST *"))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError), met.error


@pytest.mark.usefixtures("peak")
@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_a_document_without_end(http_target, faulty, meet, status, kind):
    server = await faulty(http_target)
    start = b'{"error": "' if "json" in kind else b"<html>"
    server.on("POST *", Reply((start,), status, kind))
    server.fail(Fault.flood(b"x" * MIB, len(start), route="POST *"))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError | ServerError), met.error


@pytest.mark.usefixtures("peak")
async def test_a_model_list_without_end(target, faulty, meet):
    """The list is only asked for on the way; the error of the call itself is about the same server."""
    server = await faulty(target)
    server.fail(Fault.flood(b"[" * 65536, "head"))
    met = await meet(target, server.url)
    assert isinstance(met.error, ProtocolError | ServerError), met.error


@pytest.mark.usefixtures("peak")
async def test_headers_without_end(target, ground, meet):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Header: value\r\n" * 1000)
            await writer.drain()

    met = await meet(target, await ground.serve(talk))
    assert isinstance(met.error, ProtocolError | ServerUnreachable), met.error


@pytest.mark.usefixtures("peak")
async def test_interim_answers_without_end(target, ground, meet):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
            await writer.drain()

    met = await meet(target, await ground.serve(talk), asking(first_event=0.5, connect=0.5))
    assert isinstance(met.error, ProtocolError | ServerUnreachable | TimedOut), met.error


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """256 MiB of spaces in a gzip file."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(256)), packer.flush()])


@pytest.mark.usefixtures("peak")
async def test_an_answer_that_unpacks_to_a_thousand_times_its_size(bomb, http_target, faulty, meet):
    server = await faulty(http_target)
    server.on("POST *", Reply((bomb,), 200, "application/json", {"Content-Encoding": "gzip"}))
    met = await meet(http_target, server.url)
    assert isinstance(met.error, ProtocolError | ServerError), met.error


# -- without end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filler", [b": keep-alive\n\n", b"\n", b"id: 7\n\n", b"event: ping\n\n", b"retry: 1\n"]
)
async def test_keepalives_instead_of_an_answer_end_at_the_first_event_clock(
    http_target, faulty, meet, filler
):
    """Nothing else ever comes, so the clock can only be the one that ends it."""
    server = await faulty(http_target, filler)
    server.fail(Fault.flood(filler, 1, route="POST *"))
    met = await meet(http_target, server.url, asking(first_event=0.5))
    assert isinstance(met.error, TimedOut), met.error
    assert met.error.clock == "first_event"
    assert await server.until(lambda: server.find("POST *")[-1].left)


async def test_keepalives_in_the_middle_of_an_answer_end_at_the_total_clock(http_target, faulty, meet):
    server = await faulty(http_target, http_target.delta("Hello"))
    server.fail(Fault.flood(b": keep-alive\n\n", len(http_target.delta("Hello")), route="POST *"))
    met = await meet(http_target, server.url, asking(total=1.5, idle=600, first_event=600))
    assert isinstance(met.error, TimedOut), met.error
    assert met.error.clock == "total"
    assert met.text in {"", "Hello"}
    assert await server.until(lambda: server.find("POST *")[-1].left)


async def test_silence_in_the_middle_of_an_answer_ends_at_the_idle_clock(http_target, faulty, meet):
    server = await faulty(http_target, http_target.delta("Hello"))
    server.fail(Fault.hang(len(http_target.delta("Hello")), route="POST *"))
    met = await meet(http_target, server.url, asking(idle=0.5, first_event=600))
    assert isinstance(met.error, TimedOut), met.error
    assert met.error.clock == "idle"
    assert met.text == "Hello"


# -- LM Studio's websocket ---------------------------------------------------------------------------------

SAY = "[[say=one two three AHOY four five]]"
GRANITE = "ibm/granite-4-micro"
FRAMES = {
    "no JSON": frame(b"oops"),
    "half of a JSON": frame(b'{"type": "channelSend", "chan'),
    "bytes that are no UTF-8": frame(b'{"type": "\xff\xfe"}'),
    "a list": frame(b"[1, 2]"),
    "a number": frame(b"7"),
    "deep nesting": frame(b"[" * 100_000),
    "a channel that nobody opened": frame(b'{"type": "channelSend", "channelId": 4711, "message": {}}'),
    "a type that nobody knows": frame(b'{"type": "surprise"}'),
    "a binary frame": frame(b"\0\1\2", 2),
    "an unknown opcode": frame(b"", 5),
    "a frame with reserved bits": b"\xf1\x01x",
    "a continuation of nothing": frame(b"x", 0),
    "bytes that are no frame": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    "a close": frame(b"\x03\xf3", 8),
    "a close without end": b"\x88\x7d",
    "megabytes": b"\x81\x7f" + (100 * MIB).to_bytes(8, "big") + b'"',
    "an exabyte": b"\x81\x7f" + (1 << 60).to_bytes(8, "big"),
}
ENDLESS = {"megabytes", "an exabyte"}


@pytest.mark.usefixtures("peak")
@pytest.mark.parametrize("name", FRAMES)
async def test_a_frame_that_is_none(sdk_target, studio, make_place, fails, name):
    """It is an error after what came before it, unless the client passes over what it does not know."""
    server = await studio(FRAMES[name], forever=b"x" * MIB if name in ENDLESS else b"")
    bridge, text = make_place(sdk_target, server.url), ""
    try:
        async with asyncio.timeout(40), bridge.stream("place", asking()) as events:
            async for event in events:
                text += getattr(event, "text", "")
    except Exception as exc:  # noqa: BLE001 - any class is looked at
        fails(exc, ProtocolError | ServerUnreachable | ServerError)
    assert text.startswith("Hello")


@pytest.mark.parametrize("clock", ["first_event", "idle", "total"])
async def test_pings_without_end(sdk_target, studio, meet, clock):
    """With the idle clock the answer has begun; it counts pings as little as it counts comments."""
    server = await studio(b"", forever=frame(b"", 9), text="" if clock == "first_event" else "Hello")
    clocks = {"first_event": 600, "idle": 600, "total": 600} | {clock: 1.0}
    met = await meet(sdk_target, server.url, asking(**clocks))
    assert isinstance(met.error, TimedOut), met.error
    assert met.error.clock == clock


@pytest.mark.parametrize("place", [b"two", b'"fragment"'])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_frame_that_is_cut(sdk_target, faulty_studio, meet, place, reset):
    server = await faulty_studio(loaded=(GRANITE,))
    server.fail(Fault.drop(place, reset=reset, route="GET /llm"))
    met = await meet(sdk_target, server.url, Request(model=GRANITE, messages=[Message.user(SAY)]))
    assert isinstance(met.error, ProtocolError | ServerUnreachable), met.error
    assert met.error.retryable
    assert "one two three".startswith(met.text.strip())
    asked = [text for socket in server.find("GET /llm") for text in socket.messages if '"predict"' in text]
    assert len(asked) == 1, "a conversation must not be sent twice"


async def test_a_socket_that_hangs_in_the_middle_of_a_frame(sdk_target, faulty_studio, meet):
    server = await faulty_studio(loaded=(GRANITE,))
    server.fail(Fault.hang(b"AHOY", route="GET /llm"))
    asked = Request(model=GRANITE, messages=[Message.user(SAY)], timeouts=Timeouts(idle=0.5, first_event=600))
    met = await meet(sdk_target, server.url, asked)
    assert isinstance(met.error, TimedOut), met.error
    assert met.error.clock == "idle"
    assert met.text.startswith("one two three")
