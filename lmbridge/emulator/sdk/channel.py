"""What the handlers of the SDK's websockets work with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.journal import RequestRecord

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core

Send = Callable[[dict[str, Any]], Awaitable[None]]


class ConnectionDropped(Exception):
    """Reset the connection now."""


class Peer:
    """Who calls, and where.

    Args:
        core: the emulator.
        namespace: `llm`, `embedding`, `system`, `files` or `repository`.
        client: the client's identifier, which owns its files.
        record: of this call.
    """

    def __init__(self, core: Core, namespace: str, client: str, record: RequestRecord | None = None) -> None:
        self.core = core
        self.namespace = namespace
        self.client = client
        self.record = record or RequestRecord(0, namespace)

    @property
    def kind(self) -> str:
        """The kind of model of this namespace."""
        return "embedding" if self.namespace == "embedding" else "llm"

    def of(self, record: RequestRecord) -> Peer:
        """Return the same peer for another call."""
        return Peer(self.core, self.namespace, self.client, record)


class Channel:
    """One channel on a websocket.

    Args:
        peer: who opened it.
        parameter: its creation parameter.
        channel_id: its number on the socket.
        send: sends a frame.
    """

    def __init__(self, peer: Peer, parameter: Any, channel_id: Any, send: Send) -> None:
        self.peer = peer
        self.parameter: dict[str, Any] = parameter if isinstance(parameter, dict) else {}
        self.id = channel_id
        self._send = send
        self._stop: Callable[[str], None] | None = None
        self._stopped: str | None = None
        self.gone = asyncio.Event()
        """Set when the client is gone."""

    def on_stop(self, stop: Callable[[str], None]) -> None:
        """Say what a cancel by the client, or its loss, does; the reason is passed."""
        self._stop = stop
        if self._stopped is not None:
            stop(self._stopped)

    def received(self, message: Any) -> None:
        """Take a message of the client."""
        self.peer.record.received(message)
        if isinstance(message, dict) and message.get("type") == "cancel":
            self._end("cancelled")

    def lost(self) -> None:
        """The client is gone."""
        self.gone.set()
        self.peer.record.disconnected = True
        if self.peer.core.settings.socket_close_aborts:
            self._end("socket closed")

    def _end(self, reason: str) -> None:
        self._stopped = reason
        if self._stop is not None:
            self._stop(reason)

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a packet; to a client that has gone it is lost."""
        with contextlib.suppress(ConnectionError):
            await self._send(
                {"type": "channelSend", "channelId": self.id, "message": {"type": kind, **fields}}
            )
