"""Each trap that users of LM Studio have met, sprung on purpose: the whole way through a ``Bridge``.

Every test of this folder names one trap; its docstring says in a sentence what the trap is, and where it was
met. ``test_sources.py`` sees to that.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import lmbridge
from lmbridge.emulator import Emulator, Settings
from lmbridge_lmstudio_rest import LMStudioREST
from lmbridge_lmstudio_sdk import LMStudioSDK
from lmbridge_openai import OpenAICompat

PROVIDERS = {"lmstudio-sdk": LMStudioSDK, "lmstudio-rest": LMStudioREST, "openai-compat": OpenAICompat}
#: Connections of every stand, by the name that tests use.
CONNECTIONS = {"sdk": "lmstudio-sdk", "rest": "lmstudio-rest", "compat": "openai-compat"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Frame = dict[str, Any]


class Meddler:
    """A man in the middle: passes everything on between a client and the emulator, but what a test changes.

    Attributes:
        routes: handlers in the place of the emulator's, by path.
        frame: gets each frame that the emulator sends on a websocket and returns what the client gets
            instead: frames as objects, or texts as they are. Raising ``ConnectionError`` drops the socket.
        seen: the paths that were asked for, in order.
        sockets: websockets that were opened.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.routes: dict[str, Handler] = {}
        self.frame: Callable[[Frame], Iterable[Frame | str]] = lambda frame: (frame,)
        self.seen: list[str] = []
        self.sockets = 0
        self.url = ""

    async def start(self, stack: AsyncExitStack) -> None:
        self._session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.path)
        handler = self.routes.get(request.path)
        if handler is not None:
            return await handler(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        return await self.forward(request)

    async def forward(self, request: web.Request, body: bytes | None = None) -> web.StreamResponse:
        """Pass a request on, with another body if one is given."""
        kept = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type", "Accept")
            if name in request.headers
        }
        sent = await request.read() if body is None else body
        async with self._session.request(
            request.method, self._target + request.path_qs, data=sent, headers=kept
        ) as answer:
            reply = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await reply.prepare(request)
            async for block in answer.content.iter_any():
                await reply.write(block)
            await reply.write_eof()
            return reply

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self.sockets += 1
        near = web.WebSocketResponse(max_msg_size=0)
        await near.prepare(request)
        async with self._session.ws_connect(self._target + request.path, max_msg_size=0) as far:
            there = asyncio.ensure_future(_pump(near, far.send_str))
            back = asyncio.ensure_future(_pump(far, lambda text: self._meddle(text, near.send_str)))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            for task in (there, back):
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task
        if request.transport is not None:
            request.transport.abort()
        return near

    async def _meddle(self, text: str, send: Callable[[str], Awaitable[None]]) -> None:
        for frame in self.frame(json.loads(text)):
            await send(frame if isinstance(frame, str) else json.dumps(frame))


async def _pump(source: Any, send: Callable[[str], Awaitable[None]]) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await send(message.data)


class Stand:
    """An emulator, a meddler in front of it if asked for, and a bridge with three connections to it."""

    def __init__(self, emulator: Emulator, meddler: Meddler | None, bridge: lmbridge.Bridge) -> None:
        self.emulator = emulator
        self.meddler = meddler
        self.bridge = bridge

    @property
    def bodies(self) -> list[Any]:
        """What the chat requests of both HTTP interfaces carried, oldest first."""
        chats = ("/api/v1/chat", "/v1/chat/completions")
        return [record.body for record in self.emulator.requests if record.route.endswith(chats)]

    @property
    def predictions(self) -> list[Any]:
        """The records of everything that made a model answer, oldest first."""
        answering = ("/api/v1/chat", "/v1/chat/completions", "predict")
        return [record for record in self.emulator.requests if record.route.endswith(answering)]

    async def ask(self, via: str, text: Any = "Hello", **fields: Any) -> lmbridge.Result:
        return await self.bridge.generate(via, request(text, **fields))

    async def until_error(
        self, via: str, text: Any = "Hello", **fields: Any
    ) -> tuple[lmbridge.Fold, lmbridge.LMBridgeError]:
        """What came before the error, and the error."""
        answer = lmbridge.Fold()
        try:
            async with self.bridge.stream(via, request(text, **fields)) as events:
                async for event in events:
                    answer.add(event)
        except lmbridge.LMBridgeError as error:
            return answer, error
        raise AssertionError("no error")


def request(text: Any = "Hello", **fields: Any) -> lmbridge.Request:
    """A request of one user message, or of the messages given."""
    messages = (lmbridge.Message.user(text),) if isinstance(text, str) else tuple(text)
    return lmbridge.Request(**{"model": "ibm/granite-4-micro", "messages": messages} | fields)


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each of the SDK's five connections the 30 ms that httpx needs to read all certificates."""
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda *_, **__: empty, raising=False)


@pytest.fixture(params=list(CONNECTIONS))
def via(request: pytest.FixtureRequest) -> str:
    """The connection: each test that takes it runs for all three providers."""
    return str(request.param)


@pytest.fixture
async def make_stand(make_bridge: Callable[..., lmbridge.Bridge]) -> AsyncIterator[Callable[..., Any]]:
    """A factory of stands: ``await make_stand(jit=False)``; ``meddle=True`` puts a meddler in between.

    ``fields`` are further settings of the three connections.
    """
    async with AsyncExitStack() as stack:

        async def make(
            *,
            meddle: bool = False,
            fields: Mapping[str, Any] | None = None,
            clock: Any = None,
            **switches: Any,
        ) -> Stand:
            emulator = await stack.enter_async_context(
                Emulator(Settings.instant(**switches), **({} if clock is None else {"clock": clock}))
            )
            meddler = Meddler(emulator.url) if meddle else None
            if meddler is not None:
                await meddler.start(stack)
            url = emulator.url if meddler is None else meddler.url
            bridge = make_bridge(PROVIDERS, connections=connections_to(url, **(fields or {})))
            return Stand(emulator, meddler, bridge)

        yield make


def connections_to(url: str, **fields: Any) -> dict[str, dict[str, Any]]:
    # A connection is slow to stand on a machine that tests keep busy.
    common = {"base_url": url, "connect_timeout": 30.0, **fields}
    return {name: {"provider": provider, **common} for name, provider in CONNECTIONS.items()}


@pytest.fixture
def make_bridge_to(make_bridge: Callable[..., lmbridge.Bridge]) -> Callable[..., lmbridge.Bridge]:
    """A bridge with the three connections to any address: ``make_bridge_to("http://127.0.0.1:1")``."""
    return lambda url, environ=None, **fields: make_bridge(
        PROVIDERS, connections=connections_to(url, **fields), environ=environ
    )


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Start a server that is no LM Studio at all: ``url = await serve(handler)``."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        yield start


@pytest.fixture
def ask_for() -> Callable[..., lmbridge.Request]:
    """Make a request: ``ask_for("Hello", model=…, options=…)``."""
    return request
