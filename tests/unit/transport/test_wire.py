"""One connection: every form of an answer, every way in which it can go wrong."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmbridge.transport import Broken, Garbled, Route
from lmbridge.transport.wire import Wire

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def test_a_body_of_known_length(serving, get):
    async with serving(OK + b"Content-Length: 5\r\nX-Twice: a\r\nX-Twice: b\r\n\r\nhello") as server:
        status, headers, body = await get(server.route)
    assert (status, body) == (200, b"hello")
    assert headers["x-twice"] == "a, b"


async def test_a_body_in_chunks_with_extensions_and_trailers(serving, get):
    answer = CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    async with serving(answer) as server:
        _, headers, body = await get(server.route)
    assert body == b"abcde"
    assert "x-trailer" not in headers


async def test_a_body_until_the_end_of_the_connection(serving, get):
    async def old(_, writer):
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        writer.close()

    async with serving(old) as server:
        assert (await get(server.route))[2] == b"all of it"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body(serving, get, status):
    async with serving(b"HTTP/1.1 %d X\r\n\r\n" % status) as server:
        assert (await get(server.route))[::2] == (status, b"")
        assert (await get(server.route))[::2] == (status, b"")
    assert server.connections == 1


async def test_interim_answers_are_passed_over(serving, get):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    async with serving(interim + OK + b"Content-Length: 2\r\n\r\nok") as server:
        status, headers, body = await get(server.route)
    assert (status, body) == (200, b"ok")
    assert "link" not in headers


async def test_what_came_before_a_break_is_not_lost(serving, pool):
    async def half(_, writer):
        writer.write(CHUNKED + b"5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    async with serving(half) as server:
        wire = await pool.take(server.route, 10)
        wire.ask(b"GET / HTTP/1.1\r\n\r\n", None)
        response = await wire.head()
        await asyncio.wait_for(wire.ended, 10)  # the break is there before anybody reads
        assert await response.block() == b"hello"
        with pytest.raises(Broken):
            await response.block()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"-ERR unknown command\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"HTTP/1.1 abc\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_called_so(serving, get, answer):
    async with serving(answer) as server:
        with pytest.raises(Garbled):
            await get(server.route)


async def test_a_chunk_that_lies_about_its_length(serving, get):
    async with serving(CHUNKED + b"zz\r\nx\r\n") as server:
        with pytest.raises(Garbled):
            await get(server.route)


@pytest.mark.parametrize(
    ("begin", "flood"),
    [
        (OK, b"X-Long: " + b"a" * 1000),
        (OK, b"X-Many: a\r\n"),
        (CHUNKED + b"1;", b"x" * 1000),
        (CHUNKED + b"0\r\n", b"X-Trailer: a\r\n"),
        (b"HTTP/1.1 ", b"2"),
    ],
    ids=["header", "headers", "extension", "trailers", "status"],
)
async def test_endless_talk_without_content_ends(serving, get, begin, flood):
    async def talk(_, writer):
        writer.write(begin)
        while True:
            writer.write(flood * 50)
            await writer.drain()

    async with serving(talk) as server:
        with pytest.raises(Garbled):
            await asyncio.wait_for(get(server.route), 30)
        await asyncio.wait_for(server.gone.wait(), 10)


async def test_a_reader_that_is_slow_makes_the_server_wait(serving, pool):
    sent = 0
    stuck = asyncio.Event()
    block = b"x" * 65536

    async def pour(_, writer):
        nonlocal sent
        writer.write(CHUNKED)
        while sent < 256 * 1024 * 1024:
            writer.write(b"10000\r\n" + block + b"\r\n")
            try:
                await asyncio.wait_for(writer.drain(), 1.0)
            except TimeoutError:
                stuck.set()
                return
            sent += len(block)

    async with serving(pour) as server:
        head = b"GET / HTTP/1.1\r\n\r\n"
        async with pool.exchange(server.route, head, None, seconds=10) as response:
            await asyncio.wait_for(stuck.wait(), 60)
            assert sent < 64 * 1024 * 1024
            read = 0
            while read < sent:  # what was held back comes when somebody reads
                read += len(await asyncio.wait_for(response.block(), 10))


async def test_an_answer_nobody_asked_for_ends_the_connection(serving, get):
    async with serving(OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 4\r\n\r\nevil") as server:
        assert (await get(server.route))[2] == b"ok"
        assert (await get(server.route))[2] == b"ok"
    assert server.connections == 2


class Unconnected(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(0, 400), max_size=12),
    st.sampled_from(["chunked", "length"]),
)
def test_any_cutting_gives_the_same_answer(pieces, cuts, form):
    body = b"".join(pieces)
    if form == "length":
        answer = OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    else:
        answer = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    borders = sorted({0, len(answer), *(min(cut, len(answer)) for cut in cuts)})

    async def read() -> tuple[int, bytes]:
        wire = Wire(asyncio.get_running_loop())
        wire.connection_made(Unconnected())
        wire.ask(b"GET / HTTP/1.1\r\n\r\n", None)
        for begin, end in itertools.pairwise(borders):
            wire.data_received(answer[begin:end])
        response = await wire.head()
        read = await response.read(1 << 20)
        assert response.at_end()
        assert wire.usable
        wire.connection_lost(None)
        return response.status, read

    assert asyncio.run(read()) == (200, body)


STRAY = [
    OK.replace(b"200 OK", b"500 Oops") + b"Content-Length: 4\r\n\r\nevil",
    OK.replace(b"200 OK", b"500 Oops") + b"Content-Length: 4\r\n\r\nevil and no HTTP",
    OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\nzz",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    OK + b"X-Evil: 1\r\n",
    b"nonsense",
]


@pytest.mark.parametrize("stray", STRAY)
async def test_what_follows_an_answer_in_the_same_block_changes_nothing_of_it(serving, get, stray):
    async with serving(OK + b"Content-Length: 2\r\nX-Ours: 1\r\n\r\nok" + stray) as server:
        status, headers, body = await get(server.route)
        assert (status, headers, body) == (200, {"content-length": "2", "x-ours": "1"}, b"ok")
        await get(server.route)
    assert server.connections == 2


@pytest.mark.parametrize("header", [b"Content-Length: 4\r\n\r\nevil", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_an_interim_answer_has_no_body(serving, get, header):
    async with serving(b"HTTP/1.1 150 X\r\n" + header + OK + b"Content-Length: 2\r\n\r\nok") as server:
        with pytest.raises(Garbled):
            await get(server.route)


@pytest.mark.parametrize("coding", [b"identity", b"chunked, gzip", b"xchunked", b"chunked;q=1, foo"])
async def test_a_body_that_is_not_in_chunks_at_last_ends_with_the_connection(serving, get, coding):
    async def old(_, writer):
        writer.write(OK + b"Transfer-Encoding: " + coding + b"\r\n\r\nall of it")
        writer.close()

    async with serving(old) as server:
        assert (await get(server.route))[2] == b"all of it"


async def test_a_connection_that_we_close_is_no_end_of_a_body(serving, pool):
    async with serving(OK + b"\r\nhalf") as server:
        exchange = pool.exchange(server.route, b"GET / HTTP/1.1\r\n\r\n", None, seconds=10)
        async with exchange as response:
            assert await response.block() == b"half"
            await pool.close()
            with pytest.raises(Broken):
                await response.block()


async def test_a_server_that_ends_its_side_is_not_written_to_for_ever(pool):
    ended = asyncio.Event()

    async def deaf(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        await ended.wait()  # reads nothing more, and keeps its side open
        writer.close()

    async with await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024) as server:
        route = Route("127.0.0.1", server.sockets[0].getsockname()[1])
        body = bytes(64 * 1024 * 1024)
        head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        with pytest.raises(Broken):
            await asyncio.wait_for(pool.exchange(route, head, body, seconds=10).__aenter__(), 20)
        ended.set()


async def test_an_answer_before_the_request_is_written_ends_the_connection(pool):
    read_on = asyncio.Event()
    heads = []

    async def hasty(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await read_on.wait()
        writer.close()

    async with await asyncio.start_server(hasty, "127.0.0.1", 0, limit=1024) as server:
        route = Route("127.0.0.1", server.sockets[0].getsockname()[1])
        body = bytes(64 * 1024 * 1024)
        head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        for _ in range(2):
            exchange = pool.exchange(route, head, body, seconds=10)
            response = await asyncio.wait_for(exchange.__aenter__(), 20)
            assert (response.status, await response.read(10)) == (413, b"big")
            await exchange.__aexit__(None, None, None)
        read_on.set()
    assert heads == [head, head]


async def test_each_error_is_raised_anew(serving, pool):
    async with serving(OK + b"Content-Length: 9\r\nConnection: close\r\n\r\nhalf") as server:
        exchange = pool.exchange(server.route, b"GET / HTTP/1.1\r\n\r\n", None, seconds=10)
        async with exchange as response:
            assert await response.block() == b"half"
            await pool.close()
            errors = []
            for _ in range(2):
                with pytest.raises(Broken) as caught:
                    await response.block()
                errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert str(errors[0]) == str(errors[1])


async def test_two_tasks_cannot_read_one_answer(serving, pool):
    async with serving(OK + b"Content-Length: 9\r\n\r\nhalf") as server:
        exchange = pool.exchange(server.route, b"GET / HTTP/1.1\r\n\r\n", None, seconds=10)
        async with exchange as response:
            await response.block()
            waiting = asyncio.create_task(response.block())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="two tasks"):
                await response.block()
            waiting.cancel()
            await asyncio.wait({waiting})


async def test_an_answer_that_was_left_reads_nothing_of_the_next_one(serving, pool):
    async with serving(OK + b"Content-Length: 2\r\n\r\nok") as server:
        head = b"GET / HTTP/1.1\r\n\r\n"
        async with pool.exchange(server.route, head, None, seconds=10) as old:
            await old.read(10)
        async with pool.exchange(server.route, head, None, seconds=10) as response:
            assert await old.block() == b""
            assert old.at_end()
            assert await response.read(10) == b"ok"
    assert server.connections == 1


async def test_an_answer_that_was_not_read_cannot_be_read_later(serving, pool):
    async with serving(OK + b"Content-Length: 9\r\n\r\nhalf") as server:
        exchange = pool.exchange(server.route, b"GET / HTTP/1.1\r\n\r\n", None, seconds=10)
        async with exchange as response:
            pass
        assert not response.at_end()
        with pytest.raises(Broken, match="was left"):
            await response.block()


async def test_a_header_is_not_repeated_without_end(serving, get):
    flood = b"X-Twice: a\r\n" * 20_000
    async with serving(OK + flood + b"Content-Length: 2\r\n\r\nok") as server:
        with pytest.raises(Garbled):
            await get(server.route)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("timeout=5", 5.0),
        ("max=100, Timeout=2", 2.0),
        ("max=100", None),
        ("x-timeout=5", None),
        ("timeout=x", None),
    ],
)
async def test_how_long_a_server_keeps_a_connection(serving, pool, told, seconds):
    async with serving(OK + b"Keep-Alive: %b\r\nContent-Length: 0\r\n\r\n" % told.encode()) as server:
        wire = await pool.take(server.route, 10)
        wire.ask(b"GET / HTTP/1.1\r\n\r\n", None)
        await wire.head()
        assert wire.keepalive == seconds
