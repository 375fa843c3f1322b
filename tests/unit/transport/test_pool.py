"""Connections are used again, given up in time, and closed."""

import asyncio
import socket
import threading
import time

import pytest

from lmbridge.transport import Broken, CannotConnect, Pool, Route

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


async def test_a_connection_that_is_opened_while_the_pool_closes_does_not_survive(serving, pool):
    async with serving(OK) as server:
        opening = asyncio.create_task(pool.take(server.route, 10))
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(CannotConnect, match="closed"):
            await opening
        await asyncio.wait_for(server.gone.wait(), 10)
        await pool.close()


async def test_a_closed_pool_opens_and_keeps_nothing(serving, get, pool):
    async with serving(OK) as server:
        head = b"GET / HTTP/1.1\r\n\r\n"
        exchange = pool.exchange(server.route, head, None, seconds=10)
        response = await exchange.__aenter__()
        assert await response.read(10) == b"ok"
        pool._closed = True  # as while it waits for its connections to end
        await exchange.__aexit__(None, None, None)
        await asyncio.wait_for(server.gone.wait(), 10)
        with pytest.raises(CannotConnect, match="closed"):
            await get(server.route)
    assert server.connections == 1


async def test_a_server_that_lost_every_connection_is_connected_to_anew(serving, get, pool):
    forgetful = Forgetful()
    async with serving(forgetful) as server:
        exchanges = [pool.exchange(server.route, HEAD, None, seconds=10) for _ in range(3)]
        for exchange in exchanges:
            assert await (await exchange.__aenter__()).read(10) == b"ok"
        for exchange in exchanges:
            await exchange.__aexit__(None, None, None)
        assert (await get(server.route))[2] == b"ok"
    assert server.connections == 4


@pytest.mark.parametrize(("told", "connections"), [(b"timeout=1", 2), (b"timeout=0", 2), (b"timeout=60", 1)])
async def test_a_server_says_for_how_long_it_keeps_a_connection(serving, get, told, connections):
    async with serving(OK.replace(b"OK\r\n", b"OK\r\nKeep-Alive: %b\r\n" % told)) as server:
        for _ in range(2):
            assert (await get(server.route, repeatable=False))[2] == b"ok"
    assert server.connections == connections


class Blocking:
    """A server in a thread, which closes its first connection when it is told to, and says when it has."""

    def __init__(self) -> None:
        self.close, self.closed = threading.Event(), threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        for _ in range(2):
            sock, _ = self.listening.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(OK)
                self.close.wait(30)
            self.closed.set()
        self.listening.close()


async def test_what_a_busy_loop_has_not_noticed_is_looked_for(get):
    server = Blocking()
    server.thread.start()
    route = Route("127.0.0.1", server.listening.getsockname()[1])
    assert (await get(route, repeatable=False))[2] == b"ok"
    server.close.set()
    server.closed.wait(30)  # the loop cannot see that the server closes
    time.sleep(0.05)  # noqa: ASYNC251 - nor do anything else
    assert (await get(route, repeatable=False))[2] == b"ok"
    server.thread.join(30)
