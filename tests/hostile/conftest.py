"""Hostile ground: servers that are none, bridges that lead there, and what every failure has in common."""

import asyncio
import json
import re
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias

import pytest

from lmbridge import Bridge, LMBridgeError, Message, Request
from lmbridge.emulator import Emulator
from lmbridge.emulator.pytest_plugin import make_lmstudio_emulator
from lmbridge.events import Event
from lmbridge.testing import FaultServer, Reply, WebSocket
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


def check_error(
    error: BaseException,
    kind: type[LMBridgeError] | UnionType = LMBridgeError,
    *,
    connection: str | None = "place",
    secrets: Iterable[str] = (),
) -> None:
    """What holds for every error that a user meets."""
    assert isinstance(error, LMBridgeError), repr(error)
    assert isinstance(error, kind), repr(error)
    assert error.message, repr(error)
    # A sentence that says what must be instead needs no further advice.
    assert error.hint or re.search(r"\b(must|should)\b", error.message), f"no hint: {error!r}"
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
    """``fails(error, kind, connection=…, secrets=…)`` checks what holds for every error."""
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


@pytest.fixture
async def faulty() -> AsyncIterator[Callable[..., Awaitable[FaultServer]]]:
    """``server = await faulty(target, *blocks)``: lists the model "m" and streams the blocks."""
    async with AsyncExitStack() as stack:

        async def start(target: Target, *blocks: bytes) -> FaultServer:
            server = await stack.enter_async_context(FaultServer())
            models = {"models": [{"type": "llm", "key": "m"}], "object": "list", "data": [{"id": "m"}]}
            server.on("GET *", Reply.json(models))
            server.on(f"POST {target.chat_path}", Reply.sse(*blocks))
            return server

        yield start


@pytest.fixture
async def faulty_studio(
    make_lmstudio_emulator: Callable[..., Awaitable[Emulator]],
) -> AsyncIterator[Callable[..., Awaitable[FaultServer]]]:
    """``server = await faulty_studio(**switches)``: an emulator, with faults on the way to it."""
    async with AsyncExitStack() as stack:

        async def start(**switches: Any) -> FaultServer:
            emulator = await make_lmstudio_emulator(**switches)
            return await stack.enter_async_context(FaultServer(upstream=emulator.url))

        yield start


MODEL = {
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
RESULTS = {"getModelInfo": MODEL, "version": {"version": "9.9.9", "build": 1}}


@dataclass(frozen=True)
class Studio:
    """LM Studio's socket: says ``text`` and then the bytes ``data``.

    ``forever`` are bytes that it sends again and again behind them; without, the answer goes on and ends.
    """

    data: bytes
    forever: bytes = b""
    text: str = "Hello"

    async def talk(self, socket: WebSocket) -> None:
        await socket.receive()
        await socket.send({"success": True})
        while True:
            asked = await socket.receive_json()
            number = asked.get("channelId")
            if asked["type"] == "rpcCall":
                answer = {"callId": asked["callId"], "result": RESULTS.get(asked["endpoint"], [])}
                await socket.send({"type": "rpcResult", **answer})
            elif asked.get("endpoint") == "getOrLoad":
                loaded = {"type": "alreadyLoaded", "info": MODEL}
                await socket.send({"type": "channelSend", "channelId": number, "message": loaded})
                await socket.send({"type": "channelClose", "channelId": number})
            elif asked.get("endpoint") == "predict":
                await self._predict(socket, number)

    async def _predict(self, socket: WebSocket, number: int) -> None:
        async def say(message: dict[str, Any]) -> None:
            await socket.send({"type": "channelSend", "channelId": number, "message": message})

        piece = {"content": self.text, "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
        if self.text:
            await say({"type": "fragment", "fragment": piece})
        await socket._send(self.data)
        while self.forever:
            await socket._send(self.forever)
            await asyncio.sleep(0.001)  # leaves the client some time on a small machine
        await say({"type": "fragment", "fragment": piece})
        stats = {"stopReason": "eosFound", "promptTokensCount": 1, "predictedTokensCount": 1}
        configs = {"loadModelConfig": {"fields": []}, "predictionConfig": {"fields": []}}
        await say({"type": "success", "stats": stats, "modelInfo": MODEL, **configs})
        await socket.send({"type": "channelClose", "channelId": number})


@pytest.fixture
async def studio() -> AsyncIterator[Callable[..., Awaitable[FaultServer]]]:
    """``server = await studio(data, forever=…, text=…)``: a server with the socket of :class:`Studio`."""
    async with AsyncExitStack() as stack:

        async def start(data: bytes, **fields: Any) -> FaultServer:
            server = await stack.enter_async_context(FaultServer())
            server.on("GET *", Reply.websocket(Studio(data, **fields).talk))
            return server.on("GET /lmstudio-greeting", Reply.json({"lmstudio": True}))

        yield start


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A TLS server's context with a certificate that nobody trusts; valid until 2126, for nobody's host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("untrusted.pem"))
    return context


@pytest.fixture
def off_the_loop() -> Callable[..., Any]:
    """Run something that blocks in a thread, from an async test: ``off_the_loop(function, *arguments)``."""

    def run(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function, *arguments, **named).result()

    return run
