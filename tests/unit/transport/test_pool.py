"""Connections are used again, given up in time, and closed."""

import asyncio

import pytest

from lmbridge.transport import Broken, Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEAD = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


async def test_one_connection_serves_one_request_after_another(serving, get):
    async with serving(OK) as server:
        for _ in range(3):
            assert (await get(server.route))[2] == b"ok"
    assert server.connections == 1


async def test_requests_at_once_have_a_connection_each(serving, get):
    waiting = asyncio.Event()
    held = 0

    async def hold(_, writer):
        nonlocal held
        held += 1
        if held == 3:
            waiting.set()
        await waiting.wait()
        writer.write(OK)

    async with serving(hold) as server:
        await asyncio.wait_for(asyncio.gather(*(get(server.route) for _ in range(3))), 10)
    assert server.connections == 3


async def test_leaving_before_the_end_closes_the_connection(serving, pool):
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx") as server:
        async with pool.exchange(server.route, HEAD, None, seconds=10) as response:
            assert await response.block() == b"x"
        await asyncio.wait_for(server.gone.wait(), 10)


async def test_a_cancelled_request_closes_the_connection(serving, pool):
    asked = asyncio.Event()

    async def never(reader, _):
        asked.set()
        await reader.read()

    async def send(route):
        async with pool.exchange(route, HEAD, None, seconds=10):
            pass

    async with serving(never) as server:
        task = asyncio.create_task(send(server.route))
        await asyncio.wait_for(asked.wait(), 10)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.wait_for(pool.close(), 10)
    assert task.cancelled()


async def test_a_server_that_closes_after_each_answer_is_connected_to_anew(serving, get):
    async def close(_, writer):
        writer.write(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))

    async with serving(close) as server:
        for _ in range(2):
            assert (await get(server.route))[2] == b"ok"
    assert server.connections == 2


class Forgetful:
    """Answers the first request of a connection and closes it upon the second, unread."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    async def __call__(self, _, writer) -> None:
        if id(writer) in self.seen:
            writer.close()
            return
        self.seen.add(id(writer))
        self.last = writer
        writer.write(OK)


async def test_a_request_that_may_be_sent_twice_survives_a_dead_connection(serving, get):
    async with serving(Forgetful()) as server:
        for _ in range(2):
            assert (await get(server.route))[2] == b"ok"
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_one_that_may_not_is_an_error(serving, get):
    async with serving(Forgetful()) as server:
        await get(server.route, repeatable=False)
        with pytest.raises(Broken):
            await get(server.route, repeatable=False)
    assert len(server.requests) == 2


async def test_idle_connections_are_closed_in_time(serving):
    pool = Pool(asyncio.get_running_loop(), keepalive=0.01)
    async with serving(OK) as server:
        async with pool.exchange(server.route, HEAD, None, seconds=10) as response:
            assert await response.read(10) == b"ok"
        await asyncio.wait_for(server.gone.wait(), 10)
    await pool.close()


async def test_closing_ends_what_is_under_way(serving, pool):
    asked = asyncio.Event()

    async def never(reader, _):
        asked.set()
        await reader.read()

    async def send(route):
        async with pool.exchange(route, HEAD, None, seconds=10):
            pass

    async with serving(never) as server:
        task = asyncio.create_task(send(server.route))
        await asyncio.wait_for(asked.wait(), 10)
        await pool.close()
        with pytest.raises(Broken):
            await task


async def test_a_large_body_arrives_whole(serving, pool):
    body = bytes(range(256)) * 40_000
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(OK) as server, pool.exchange(server.route, head, body, seconds=10) as response:
        assert await response.read(10) == b"ok"
    assert server.requests == [head + body]
