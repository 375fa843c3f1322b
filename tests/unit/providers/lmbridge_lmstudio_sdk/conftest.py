"""A context without a bridge, the emulator, and a websocket server that does what a test scripts."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from lmbridge.chat import Message, Request, Timeouts
from lmbridge.context import Context
from lmbridge.emulator import Emulator, Settings
from lmbridge.events import Event
from lmbridge.folding import Fold
from lmbridge.runtime import LoopResources
from lmbridge.settings import Connection
from lmbridge_lmstudio_sdk import LMStudioSDK

TOKEN = "sk-lm-ABCDEFGH:abcdefghij0123456789"
INFO = {
    "type": "llm",
    "modelKey": "test/model",
    "format": "gguf",
    "displayName": "Test",
    "publisher": "test",
    "path": "test/model.gguf",
    "sizeBytes": 1,
    "identifier": "test/model",
    "instanceReference": "AAAAAAAAAAAAAAAAAAAAAAAA",
    "vision": True,
    "trainedForToolUse": True,
    "maxContextLength": 8192,
    "contextLength": 4096,
}
STATS = {
    "stopReason": "eosFound",
    "tokensPerSecond": 50.0,
    "timeToFirstTokenSec": 0.25,
    "promptTokensCount": 7,
    "predictedTokensCount": 2,
    "totalTokensCount": 9,
}


def fragment(text: Any, kind: str = "none", **more: Any) -> dict[str, Any]:
    body = {"content": text, "tokensCount": 1, "containsDrafted": False, "reasoningType": kind, **more}
    return {"type": "fragment", "fragment": body}


def success(**stats: Any) -> dict[str, Any]:
    return {
        "type": "success",
        "stats": STATS | stats,
        "modelInfo": INFO,
        "loadModelConfig": {"fields": []},
        "predictionConfig": {"fields": []},
    }


class Channel:
    """A channel that the client has opened."""

    def __init__(self, server: "Scripted", socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        self._socket = socket
        self._server = server
        self.number = frame["channelId"]
        self.parameter = frame["creationParameter"]
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.frame({"type": "channelSend", "channelId": self.number, "message": message})

    async def frame(self, frame: dict[str, Any]) -> None:
        await self._socket.send_str(json.dumps(frame))

    async def text(self, text: str) -> None:
        await self._socket.send_str(text)

    async def error(self, **fields: Any) -> None:
        await self.frame({"type": "channelError", "channelId": self.number, "error": fields})

    async def close(self) -> None:
        await self.frame({"type": "channelClose", "channelId": self.number})

    async def cancelled(self) -> None:
        """Wait for the client's cancel."""
        async with asyncio.timeout(30):
            while (await self.messages.get()).get("type") != "cancel":
                pass

    def drop(self) -> None:
        self._server.drop()

    def settings(self, stack: str = "predictionConfigStack") -> dict[str, Any]:
        """The key-value configuration that the client sent."""
        fields = [field for layer in self.parameter[stack]["layers"] for field in layer["config"]["fields"]]
        return {field["key"]: field["value"] for field in fields}


async def _already_loaded(channel: Channel) -> None:
    await channel.send({"type": "alreadyLoaded", "info": INFO})
    await channel.close()


async def _say_hello(channel: Channel) -> None:
    await channel.send(fragment("Hel"), fragment("lo"), success())
    await channel.close()


class Scripted:
    """LM Studio's port, as far as a test scripts it.

    ``calls`` answers RPCs by endpoint, as functions of the parameter; ``channels`` serves channels.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[Any], Any]] = {
            "listLoaded": lambda _: [],
            "listDownloadedModels": lambda _: [],
            "getModelInfo": lambda _: INFO,
            "version": lambda _: {"version": "9.9.9", "build": 1},
            "uploadFileBase64": lambda parameter: {
                "identifier": f"file-{len(self.frames)}",
                "fileType": "image",
                "sizeBytes": len(parameter["contentBase64"]),
            },
        }
        self.channels: dict[str, Callable[[Channel], Awaitable[None]]] = {
            "getOrLoad": _already_loaded,
            "predict": _say_hello,
        }
        self.greeting: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._greet
        self.auth: Callable[[dict[str, Any]], Any] = lambda _: {"success": True}
        self.frames: list[tuple[str, dict[str, Any]]] = []
        self.logins: list[dict[str, Any]] = []
        self.opened: list[Channel] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self._changed = asyncio.Condition()
        self._sockets: list[web.Request] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def _greet(self, _: web.Request) -> web.Response:
        return web.json_response({"lmstudio": True})

    async def _greeted(self, request: web.Request) -> web.StreamResponse:
        return await self.greeting(request)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/lmstudio-greeting", self._greeted)
        app.router.add_get("/{namespace:llm|embedding|files|repository|system}", self._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self._sockets.append(request)
        self.connections += 1
        try:
            await self._talk(socket, request.match_info["namespace"])
        except (ConnectionError, TypeError):
            pass  # the client is gone, or the login was no JSON: both are scripted
        finally:
            self._sockets.remove(request)
        return socket

    async def _talk(self, socket: web.WebSocketResponse, namespace: str) -> None:
        self.logins.append(await socket.receive_json())
        answer = self.auth(self.logins[-1])
        if answer is None:
            await asyncio.Event().wait()
        await socket.send_json(answer)
        channels: dict[int, Channel] = {}
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame = json.loads(message.data)
            self.frames.append((namespace, frame))
            match frame["type"]:
                case "rpcCall":
                    await self._answer(socket, frame)
                case "channelCreate":
                    channel = channels[frame["channelId"]] = Channel(self, socket, frame)
                    self.opened.append(channel)
                    self._begin(self.channels[frame["endpoint"]](channel))
                case "channelSend":
                    channels[frame["channelId"]].messages.put_nowait(frame["message"])
            async with self._changed:
                self._changed.notify_all()

    async def _answer(self, socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        endpoint, number = frame["endpoint"], frame["callId"]
        if endpoint not in self.calls:
            error = {"title": f"no {endpoint}", "rootTitle": f"no {endpoint}"}
            await socket.send_json({"type": "rpcError", "callId": number, "error": error})
            return
        result = self.calls[endpoint](frame.get("parameter"))
        if isinstance(result, Exception):
            await socket.send_json({"type": "rpcError", "callId": number, "error": result.args[0]})
        else:
            await socket.send_json({"type": "rpcResult", "callId": number, "result": result})

    def _begin(self, script: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await script
            except ConnectionError:
                pass
            except Exception as exc:  # noqa: BLE001 - whatever a script raises fails the test at its end
                self.failures.append(exc)

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self) -> None:
        """Reset all connections."""
        for request in list(self._sockets):
            if request.transport is not None:
                request.transport.abort()

    async def wait_for(self, condition: Callable[[], Any]) -> None:
        """Wait until a frame makes the condition true."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(condition)

    def sent(self, kind: str) -> list[dict[str, Any]]:
        """Frames of one type, or calls and channels of one endpoint."""
        return [frame for _, frame in self.frames if kind in (frame["type"], frame.get("endpoint"))]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.drop()


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each of the SDK's five connections the 30 ms that httpx needs to read all certificates."""
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    target = "httpx._transports.default.create_ssl_context"
    monkeypatch.setattr(target, lambda *_, **__: empty, raising=False)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    runner = await server.start()
    yield server
    await server.stop()
    await runner.cleanup()
    assert not server.failures


@pytest.fixture
def packets() -> Any:
    """What a scripted server may send: ``packets.fragment("text", "reasoning")``, ``packets.success()``."""

    class Packets:
        info = INFO
        stats = STATS
        token = TOKEN

    Packets.fragment = staticmethod(fragment)  # type: ignore[attr-defined]
    Packets.success = staticmethod(success)  # type: ignore[attr-defined]
    return Packets


@pytest.fixture
async def emulate() -> AsyncIterator[Callable[..., Awaitable[Emulator]]]:
    """Start an emulator in which no step takes time: ``await emulate(loaded=("key",))``."""
    async with AsyncExitStack() as stack:

        async def start(**switches: Any) -> Emulator:
            return await stack.enter_async_context(Emulator(Settings.instant(**switches)))

        yield start


@pytest.fixture
async def resources() -> AsyncIterator[LoopResources]:
    kept = LoopResources(asyncio.get_running_loop())
    yield kept
    await kept.close()


@pytest.fixture
def make_context(resources: LoopResources) -> Callable[..., Context]:
    """A factory of contexts: ``make_context(url, api_key=…, timeouts=Timeouts(connect=1))``."""

    def make(url: str, *, api_key: str | None = None, timeouts: Timeouts | None = None) -> Context:
        connection = Connection(
            name="sdk",
            provider="lmstudio-sdk",
            base_url=url,
            api_key=None if api_key is None else SecretStr(api_key),
            timeouts=timeouts or Timeouts(),
        )
        return Context(connection, connection.timeouts, resources)

    return make


@pytest.fixture
def provider() -> LMStudioSDK:
    return LMStudioSDK()


class Ask:
    """Asks the provider as the core would: ``await ask(context, "Hello", model="key")``."""

    def __init__(self, provider: LMStudioSDK) -> None:
        self._provider = provider

    def request(self, text: str | Request = "Hello", **fields: Any) -> Request:
        if isinstance(text, Request):
            return text
        return Request(**{"model": "test/model", "messages": (Message.user(text),)} | fields)

    async def events(self, context: Context, text: str | Request = "Hello", **fields: Any) -> list[Event]:
        stream = self._provider.stream(self.request(text, **fields), context)
        return [event async for batch in stream for event in batch]

    async def until_error(self, context: Context, **fields: Any) -> tuple[list[Event], BaseException | None]:
        """What came before the error, and the error."""
        events: list[Event] = []
        try:
            async for batch in self._provider.stream(self.request(**fields), context):
                events += batch
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            return events, exc
        return events, None

    async def __call__(self, context: Context, text: str | Request = "Hello", **fields: Any) -> Any:
        folded = Fold()
        for event in await self.events(context, text, **fields):
            folded.add(event)
        return folded.result()


@pytest.fixture
def ask(provider: LMStudioSDK) -> Ask:
    return Ask(provider)
