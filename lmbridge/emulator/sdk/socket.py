"""The SDK's websockets: authentication, remote calls and channels (lmstudio-js, Transport.ts)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import WSMsgType, web

from lmbridge.emulator import errors
from lmbridge.emulator.aio import Tasks
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import WITNESSES, known
from lmbridge.emulator.http_support import CORE, dumps, present_record
from lmbridge.emulator.sdk import load, predict, rpc
from lmbridge.emulator.sdk.channel import Channel, ConnectionDropped, Peer

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core

logger = logging.getLogger(__name__)

MAX_FRAME = 256 * 1024 * 1024
"""Largest frame from a client in bytes: pictures come as one frame."""

KEPT_FRAME = 1024 * 1024
"""Frames up to this size are kept whole in the record of their websocket."""

ChannelHandler = Callable[[Channel], Awaitable[None]]


@known("documented", "lmstudio-js, SystemPort", "Stays open as long as its websocket.")
async def alive(channel: Channel) -> None:
    """`alive`: stays open as long as its websocket (the JavaScript client's `whenDisconnected`)."""
    await channel.gone.wait()


CHANNELS: dict[tuple[str, str], ChannelHandler] = {
    ("llm", "getOrLoad"): load.get_or_load,
    ("llm", "loadModel"): load.load_model,
    ("embedding", "getOrLoad"): load.get_or_load,
    ("embedding", "loadModel"): load.load_model,
    ("llm", "predict"): predict.predict,
    ("llm", "completeRawText"): predict.complete_raw_text,
    ("repository", "downloadModel"): load.download_model,
    ("system", "alive"): alive,
}


@known(
    "documented", "lmstudio-js, Transport", "Frames are JSON texts: calls, channels, warnings, keep-alives."
)
@known(
    "proved",
    WITNESSES,
    "The first frame authenticates; a refusal is a string, and the socket closes.",
)
@known(
    "proved",
    WITNESSES,
    "Frames have no limit that a picture of 10 MB would meet.",
)
async def serve(request: web.Request) -> web.StreamResponse:
    """Serve one websocket until it closes."""
    core = request.app[CORE]
    socket = web.WebSocketResponse(
        max_msg_size=MAX_FRAME, autoping=core.settings.pong, compress=False, timeout=0.5
    )
    await socket.prepare(request)
    connection = _Connection(core, request, socket)
    core.sockets.add(connection)
    try:
        await connection.run()
    finally:
        core.sockets.discard(connection)
    return socket


class _Connection:
    """One websocket of one client."""

    def __init__(self, core: Core, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._core = core
        self._request = request
        self._socket = socket
        self._record = present_record()
        self._namespace = request.path.strip("/")
        self._tasks = Tasks()
        self._channels: dict[Any, Channel] = {}
        self._peer = Peer(core, self._namespace, "")

    async def run(self) -> None:
        """Read frames until the end."""
        if not await self._authenticated():
            await self._socket.close()
            return
        self._core.files.opened(self._peer.client)
        try:
            await self._read()
        finally:
            self._core.files.closed(self._peer.client)
            for channel in tuple(self._channels.values()):
                channel.lost()
            if self._core.settings.socket_close_aborts:
                await self._tasks.aclose()
            else:
                self._core.tasks.adopt(self._tasks)

    def drop(self) -> None:
        """Reset the connection."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Close the socket, because the server stops."""
        await self._socket.close(code=1001)
        await self._tasks.aclose()

    async def _authenticated(self) -> bool:
        """Read the first frame and answer it; a refusal is a string (observed with SDK 1.5.0 and 1.6.0b1)."""
        message = await self._socket.receive()
        frame = _decoded(message.data) if message.type is WSMsgType.TEXT else None
        if frame is None:
            return False
        identifier = str(frame.get("clientIdentifier", ""))
        passkey = str(frame.get("clientPasskey", ""))
        self._record.received({**frame, "clientPasskey": f"***({len(passkey)})"})
        error = _refusal(self._core, frame, identifier, passkey)
        if error is not None:
            await self._send({"success": False, "error": error})
            self._record.end("failed", "authentication")
            return False
        self._record.authenticated = bool(self._core.tokens)
        self._peer = Peer(self._core, self._namespace, identifier)
        await self._send({"success": True})
        return True

    async def _read(self) -> None:
        async for message in self._socket:
            frame = _decoded(message.data) if message.type is WSMsgType.TEXT else None
            if message.type in (WSMsgType.PING, WSMsgType.PONG):
                continue  # only seen while pings are not answered
            if frame is None:
                await self._warn("Received a frame that is no JSON object")
                continue
            self._core.journal.grown(len(message.data))
            self._record.size += len(message.data)
            self._record.received(frame if len(message.data) <= KEPT_FRAME else _outline(frame))
            await self._frame(frame, len(message.data))

    async def _frame(self, frame: dict[str, Any], size: int) -> None:
        kind = frame.get("type")
        if kind == "rpcCall":
            self._tasks.spawn(self._call(frame, size), f"call {frame.get('endpoint')}")
        elif kind == "channelCreate":
            self._open(frame, size)
        elif kind == "channelSend":
            channel = self._channels.get(frame.get("channelId"))
            if channel is None:
                await self._warn(
                    f"Received channelSend for unknown channel, channelId = {frame.get('channelId')}"
                )
            else:
                channel.received(frame.get("message"))
        elif kind == "keepAlive":
            await self._send({"type": "keepAliveAck"})
        elif kind not in ("channelAck", "communicationWarning"):
            await self._warn(f"Received a frame of unknown type: {kind}")

    async def _call(self, frame: dict[str, Any], size: int) -> None:
        endpoint, call_id = str(frame.get("endpoint")), frame.get("callId")
        parameter = frame.get("parameter")
        record = self._core.journal.open(f"RPC /{self._namespace} {endpoint}", body=parameter, size=size)
        record.authenticated = self._record.authenticated
        handler: rpc.Call = rpc.CALLS.get((self._namespace, endpoint), _unknown_call)
        try:
            result = await handler(self._peer.of(record), parameter)
        except Exception as problem:  # noqa: BLE001 - every call is answered
            error = _told(problem)
            record.end("failed", error.message)
            await self._send({"type": "rpcError", "callId": call_id, "error": error.serialized()})
            return
        except asyncio.CancelledError:
            record.end("cancelled", "socket closed")
            raise
        answer = {"type": "rpcResult", "callId": call_id}
        if result is not None:
            answer["result"] = result
        record.end("finished")
        await self._send(answer)

    def _open(self, frame: dict[str, Any], size: int) -> None:
        endpoint, channel_id = str(frame.get("endpoint")), frame.get("channelId")
        parameter = frame.get("creationParameter")
        record = self._core.journal.open(f"CHANNEL /{self._namespace} {endpoint}", body=parameter, size=size)
        record.authenticated = self._record.authenticated
        channel = Channel(self._peer.of(record), parameter, channel_id, self._send)
        self._channels[channel_id] = channel
        self._tasks.spawn(self._serve(channel, endpoint), f"channel {endpoint}")

    async def _serve(self, channel: Channel, endpoint: str) -> None:
        record = channel.peer.record
        try:
            await CHANNELS.get((self._namespace, endpoint), _unknown_channel)(channel)
            record.end("finished")
            await self._send({"type": "channelClose", "channelId": channel.id})
        except ConnectionDropped:
            self.drop()
        except Exception as problem:  # noqa: BLE001 - every channel ends
            error = _told(problem)
            record.end("failed", error.message)
            await self._send({"type": "channelError", "channelId": channel.id, "error": error.serialized()})
        except asyncio.CancelledError:
            record.end("cancelled", "socket closed")
            raise
        finally:
            self._channels.pop(channel.id, None)

    async def _warn(self, warning: str) -> None:
        self._record.warnings.append(warning)
        await self._send({"type": "communicationWarning", "warning": warning})

    async def _send(self, frame: dict[str, Any]) -> None:
        """Send a frame; a client that has gone is noticed by the reader."""
        if not self._socket.closed:
            with contextlib.suppress(ConnectionError):
                await self._socket.send_str(dumps(frame).decode())


def _told(problem: Exception) -> EmulatedError:
    """Return what the client is told: an unforeseen problem is one with its input, so far as we know."""
    if isinstance(problem, EmulatedError):
        return problem
    logger.error("a call of the SDK failed", exc_info=problem)
    return EmulatedError(f"Invalid request ({type(problem).__name__}).")


async def _unknown_call(peer: Peer, _parameter: Any) -> None:
    raise EmulatedError(f"Unknown endpoint: {peer.record.route.rpartition(' ')[2]}")


async def _unknown_channel(channel: Channel) -> None:
    await _unknown_call(channel.peer, None)


def _outline(frame: dict[str, Any]) -> dict[str, Any]:
    """Return a large frame without its payload, which the record of its call has."""
    return {
        key: value for key, value in frame.items() if key not in ("parameter", "creationParameter", "message")
    }


def _decoded(data: Any) -> dict[str, Any] | None:
    try:
        frame = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        return None
    return frame if isinstance(frame, dict) else None


def _refusal(core: Core, frame: dict[str, Any], identifier: str, passkey: str) -> str | None:
    """Return why a client is refused; nobody has published the texts."""
    if frame.get("authVersion") != 1 or max(len(identifier), len(passkey)) > 256:
        return "Invalid authentication message."
    guest = identifier.startswith("guest:")
    if not core.tokens and core.settings.guest_prefix_needed and not guest:
        return "Invalid client identifier."
    if not core.tokens or any(token.value == f"sk-lm-{identifier}:{passkey}" for token in core.tokens):
        return None
    refusal = errors.no_token() if guest or len(identifier) != 8 else errors.wrong_token()
    if core.settings.socket_refusal == "http":
        return refusal.message
    return refusal.message.partition(" Learn more")[0].partition(" using the Authorization")[0]
