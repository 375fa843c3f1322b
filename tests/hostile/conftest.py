"""Hostile ground: servers that are none, bridges that lead there, and what every failure has in common."""

import asyncio
import json
import re
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from aiohttp import web

from lmbridge import Bridge, LMBridgeError, Message, Request
from lmbridge.emulator.pytest_plugin import make_lmstudio_emulator
from lmbridge.events import Event
from lmbridge_lmstudio_rest import LMStudioREST
from lmbridge_lmstudio_sdk import LMStudioSDK
from lmbridge_openai import OpenAICompat

# The tests run from a bare checkout, too, where no entry point brings the emulator's fixtures.
__all__ = ["make_lmstudio_emulator"]

PROVIDERS = {"openai-compat": OpenAICompat, "lmstudio-rest": LMStudioREST, "lmstudio-sdk": LMStudioSDK}
#: LM Studio's own form, because its client takes no other. Servers in these tests repeat it in their errors.
KEY = "sk-lm-ABCDEFGH:abcdefghij0123456789"
#: A secret that does not look like one.
PLAIN_KEY = "correct horse battery staple"
#: Nothing here may take longer. It is no measure, only the end of a test that would hang.
SECONDS = 40


class Ground:
    """Servers made of a function of a connection's streams; all are gone after the test."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def serve(
        self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
    ) -> str:
        """Serve ``talk`` on a free port and return ``host:port``."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            self.connections += 1
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await talk(reader, writer)
            finally:
                writer.close()
                self._tasks.discard(task)

        server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**22, **options)
        self._servers.append(server)
        host, port = server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    ground = Ground()
    yield ground
    await ground.close()


@dataclass(frozen=True)
class Target:
    """One way to reach a server: a provider, and for ``openai-compat`` one of its two transports."""

    provider: str
    transport: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of its connection, the address left out."""
        transport = {"transport": self.transport} if self.transport else {}
        return {"provider": self.provider, **transport}

    @property
    def key(self) -> str:
        """A key that it takes."""
        return KEY if self.provider == "lmstudio-sdk" else PLAIN_KEY

    @property
    def sdk(self) -> bool:
        """Whether it speaks LM Studio's own protocol instead of HTTP."""
        return self.provider == "lmstudio-sdk"

    @property
    def chat_path(self) -> str:
        """Where it sends a conversation."""
        return "/api/v1/chat" if self.provider == "lmstudio-rest" else "/v1/chat/completions"

    def delta(self, text: str) -> bytes:
        """Return a piece of the answer as the server would write it."""
        if self.provider == "lmstudio-rest":
            return self.event({"type": "message.delta", "content": text})
        return self.event({"choices": [{"index": 0, "delta": {"content": text}}]})

    def event(self, payload: dict[str, Any]) -> bytes:
        """Return an event of its kind of stream."""
        data = b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"
        if self.provider == "lmstudio-rest":
            return f"event: {payload.get('type', 'error')}\n".encode() + data
        return data

    def end(self) -> bytes:
        """Return the end of the answer."""
        if self.provider == "lmstudio-rest":
            return self.event({"type": "chat.end", "result": {"model_instance_id": "m", "output": []}})
        finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return self.event(finish) + b"data: [DONE]\n\n"

    def __str__(self) -> str:
        return f"{self.provider}-{self.transport}" if self.transport else self.provider


OPENAI = Target("openai-compat", "direct")
CLIENT = Target("openai-compat", "sdk")
REST = Target("lmstudio-rest")
SDK = Target("lmstudio-sdk")


@pytest.fixture(params=[OPENAI, CLIENT, REST, SDK], ids=str)
def target(request: pytest.FixtureRequest) -> Target:
    """Every way to reach a server, one after the other."""
    if request.param is CLIENT:
        pytest.importorskip("openai")
    return request.param


@pytest.fixture(params=[OPENAI, CLIENT, REST], ids=str)
def http_target(request: pytest.FixtureRequest) -> Target:
    """Every way that speaks HTTP."""
    if request.param is CLIENT:
        pytest.importorskip("openai")
    return request.param


@pytest.fixture
def sdk_target() -> Target:
    """LM Studio's own protocol."""
    return SDK


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each of the SDK's five connections the 30 ms that httpx needs to read all certificates."""
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda *_, **__: empty, raising=False)


@dataclass
class Met:
    """What came of a call that had to fail."""

    events: list[Event]
    error: LMBridgeError
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = "".join(getattr(event, "text", "") for event in self.events)


def check_error(error: BaseException, *secrets: str, connection: str | None = "place") -> None:
    """What holds for every error that a user meets."""
    assert isinstance(error, LMBridgeError), repr(error)
    assert error.message, repr(error)
    assert error.hint, f"no hint: {error!r}"
    assert error.hint in str(error)
    assert len(str(error)) < 2500, "an error is a sentence, not a dump"
    if connection is not None:
        assert error.connection == connection
        assert str(error).startswith(f"{connection}: ")
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    for secret in (*secrets, KEY, KEY.partition(":")[2], PLAIN_KEY):
        assert secret not in shown


Meet: TypeAlias = Callable[..., Awaitable[Met]]


@pytest.fixture
def fails() -> Callable[..., None]:
    """``fails(error, *secrets, connection=…)`` checks what holds for every error that a user meets."""
    return check_error


@pytest.fixture
def make_place(make_bridge: Callable[..., Bridge]) -> Callable[..., Bridge]:
    """``make_place(target, url, **settings)``: a bridge whose connection "place" leads there."""

    def make(target: Target, url: str, **settings: Any) -> Bridge:
        place = {**target.settings, "base_url": url, "api_key": target.key, **settings}
        place = {name: value for name, value in place.items() if value is not None}
        return make_bridge({target.provider: PROVIDERS[target.provider]}, connections={"place": place})

    return make


@pytest.fixture
def meet(make_place: Callable[..., Bridge]) -> Meet:
    """``met = await meet(target, url)`` streams from there, and expects an error as it must be."""

    async def meet(
        target: Target,
        url: str,
        request: Request | None = None,
        *,
        bridge: Bridge | None = None,
        **settings: Any,
    ) -> Met:
        bridge = bridge or make_place(target, url, **settings)
        asked = request or Request(model="m", messages=[Message.user("hi")])
        events: list[Event] = []
        error: BaseException | None = None
        async with asyncio.timeout(SECONDS):
            try:
                async with bridge.stream("place", asked) as stream:
                    async for event in stream:
                        events.append(event)  # noqa: PERF401 - what came before the error must stay
            except Exception as exc:  # noqa: BLE001 - any class is looked at
                error = exc
        assert error is not None, events
        check_error(error)
        assert isinstance(error, LMBridgeError)
        return Met(events, error)

    return meet


class Blocks:
    """The chunks of a chat answer, and how the connection ends.

    ``end``: ``"proper"``, ``"close"`` (the connection ends within the body), ``"reset"``.
    """

    def __init__(self, *blocks: bytes, end: str = "proper", kind: str = "text/event-stream") -> None:
        self.blocks = blocks
        self.end = end
        self.kind = kind
        self.forever: bytes = b""
        #: Set when the client has hung up on an answer without end.
        self.gone = asyncio.Event()

    async def write(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {self.kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for block in self.blocks:
            writer.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        if self.forever:
            await self._go_on(writer)
        if self.end == "reset":
            writer.transport.abort()
        elif self.end == "proper":
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    async def _go_on(self, writer: asyncio.StreamWriter) -> None:
        chunk = f"{len(self.forever):x}\r\n".encode() + self.forever + b"\r\n"
        try:
            while True:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0.01)  # a server that sends without end should leave the client some time
        finally:
            self.gone.set()


@pytest.fixture
def blocks() -> type[Blocks]:
    return Blocks


@pytest.fixture
def chat_server(ground: Ground) -> Callable[[Target, Blocks], Awaitable[str]]:
    """``await chat_server(target, blocks)``: a server that lists the model "m" and answers with blocks."""

    async def start(target: Target, answer: Blocks) -> str:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                size = re.search(r"content-length: (\d+)", head)
                await reader.readexactly(int(size[1]) if size else 0)
                if head.startswith("post "):
                    await answer.write(reader, writer)
                    if answer.end != "proper":
                        return
                    continue
                listing = {
                    "models": [{"type": "llm", "key": "m"}],
                    "object": "list",
                    "data": [{"id": "m", "object": "model"}],
                }
                body = json.dumps(listing).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    + f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()

        return f"http://{await ground.serve(talk)}"

    return start


@pytest.fixture
def off_the_loop() -> Iterator[Callable[..., Any]]:
    """Run something that blocks in a thread, from an async test: ``off_the_loop(function, *arguments)``."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda function, *arguments, **named: thread.submit(function, *arguments, **named).result()


class Socket:
    """A channel of LM Studio's websocket, and the raw bytes below it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, number: int) -> None:
        self._socket = socket
        self._request = request
        self.number = number

    async def say(self, text: str) -> None:
        """Send a piece of the answer."""
        piece = {"content": text, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
        await self.send({"type": "fragment", "fragment": piece})

    async def send(self, message: dict[str, Any]) -> None:
        frame = {"type": "channelSend", "channelId": self.number, "message": message}
        await self._socket.send_str(json.dumps(frame))

    async def raw(self, data: bytes) -> None:
        """Write past the websocket."""
        assert self._request.transport is not None
        self._request.transport.write(data)

    async def text(self, data: bytes) -> None:
        """Send a text frame of any bytes."""
        size = len(data)
        length = (
            bytes([size])
            if size < 126
            else b"\x7e" + size.to_bytes(2, "big")
            if size < 65536
            else b"\x7f" + size.to_bytes(8, "big")
        )
        await self.raw(b"\x81" + length + data)

    def drop(self, *, reset: bool = True) -> None:
        transport = self._request.transport
        assert transport is not None
        transport.abort() if reset else transport.close()


Script: TypeAlias = Callable[[Socket], Awaitable[None]]


class Studio:
    """LM Studio's websocket port, with one loaded model "m" and a scripted answer."""

    info: ClassVar = {
        "type": "llm",
        "modelKey": "m",
        "format": "gguf",
        "displayName": "M",
        "publisher": "test",
        "path": "m.gguf",
        "sizeBytes": 1,
        "identifier": "m",
        "instanceReference": "AAAAAAAAAAAAAAAAAAAAAAAA",
        "vision": True,
        "trainedForToolUse": True,
        "maxContextLength": 8192,
        "contextLength": 4096,
    }

    def __init__(self, answer: Script) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Future[None]] = set()
        self.predictions = 0

    async def greet(self, _: web.Request) -> web.Response:
        return web.json_response({"lmstudio": True})

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        with suppress(ConnectionError, TypeError):
            await socket.receive_json()
            await socket.send_json({"success": True})
            async for message in socket:
                await self._take(json.loads(message.data), socket, request)
        return socket

    async def _take(self, frame: dict[str, Any], socket: web.WebSocketResponse, request: web.Request) -> None:
        if frame["type"] == "rpcCall":
            results = {"getModelInfo": self.info, "version": {"version": "9.9.9", "build": 1}}
            result = results.get(frame["endpoint"], [])
            await socket.send_json({"type": "rpcResult", "callId": frame["callId"], "result": result})
        elif frame["type"] == "channelCreate":
            channel = Socket(socket, request, frame["channelId"])
            if frame["endpoint"] == "getOrLoad":
                await channel.send({"type": "alreadyLoaded", "info": self.info})
                await socket.send_json({"type": "channelClose", "channelId": channel.number})
            else:
                self.predictions += 1
                task = asyncio.ensure_future(self._speak(channel))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _speak(self, channel: Socket) -> None:
        with suppress(ConnectionError):
            await self._answer(channel)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def studio() -> AsyncIterator[Callable[[Script], Awaitable[tuple[str, Studio]]]]:
    """``url, server = await studio(answer)``: a websocket port whose predictions the test writes itself."""
    running: list[tuple[web.AppRunner, Studio]] = []

    async def start(answer: Script) -> tuple[str, Studio]:
        server = Studio(answer)
        app = web.Application()
        app.router.add_get("/lmstudio-greeting", server.greet)
        app.router.add_get("/{namespace:llm|embedding|files|repository|system}", server.serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running.append((runner, server))
        return f"http://127.0.0.1:{runner.addresses[0][1]}", server

    yield start
    for runner, server in running:
        await server.stop()
        await runner.cleanup()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A TLS server's context with a certificate that nobody trusts; valid until 2126, for nobody's host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("untrusted.pem"))
    return context
