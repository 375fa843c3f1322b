"""A server that answers each request by what the test says, byte for byte, and a pool to ask it with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lmbridge.transport import Pool, Route

Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """What was sent to it, and how often somebody connected."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.requests: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.gone = asyncio.Event()
        self.route = Route("127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                self.requests.append(head + await reader.readexactly(length))
                await self._respond(reader, writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@pytest.fixture
def serving():
    """Serve with a coroutine function, or with the same bytes for each request."""

    @asynccontextmanager
    async def serve(answer: bytes | Respond, **how: object) -> AsyncIterator[Server]:
        async def same(_, writer):
            writer.write(answer)

        server = Server(same if isinstance(answer, bytes) else answer)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, **how)
        server.route = Route("127.0.0.1", listening.sockets[0].getsockname()[1], secure="ssl" in how)
        async with listening:
            yield server
            for writer in server.writers:  # from Python 3.12 on a server waits for its connections
                writer.close()

    return serve


@pytest.fixture
async def pool():
    made = Pool(asyncio.get_running_loop(), keepalive=30.0)
    yield made
    await made.close()


@pytest.fixture
def get(pool):
    """Send a GET and return status, headers and body."""

    async def send(route: Route, *, repeatable: bool = True) -> tuple[int, dict[str, str], bytes]:
        head = b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n"
        async with pool.exchange(route, head, None, seconds=10, repeatable=repeatable) as response:
            return response.status, dict(response.headers), await response.read(1 << 30)

    return send
