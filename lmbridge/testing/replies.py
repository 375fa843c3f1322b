"""What a scripted server answers: a whole answer, written down before it is asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from lmbridge.testing.websocket import WebSocket

__all__ = ["Framing", "Reply", "SocketScript"]

#: How the end of a body is told: by chunked coding, by its length, or by the end of the connection.
Framing: TypeAlias = Literal["chunked", "length", "close"]
SocketScript: TypeAlias = Callable[["WebSocket"], Awaitable[None]]


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _sse(event: Any) -> bytes:
    if isinstance(event, bytes):
        return event
    name, data = event if isinstance(event, tuple) else ("", event)
    text = data.encode() if isinstance(data, str) else _dumps(data)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + text + b"\n\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: a status, headers, and the blocks of a body.

    Attributes:
        blocks: the body. Each block is written by itself, and is a chunk where the framing has chunks.
        status: HTTP status.
        kind: the content type; empty for none.
        headers: further headers.
        framing: how the end of the body is told.
        bare: there is no HTTP at all: the blocks are everything that is sent, and the connection is closed.
        script: talks over a WebSocket instead, once the handshake is done; set by :meth:`websocket`.
    """

    blocks: tuple[bytes, ...] = ()
    status: int = 200
    kind: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Framing = "chunked"
    bare: bool = False
    script: SocketScript | None = None

    @classmethod
    def json(cls, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Answer with one JSON text."""
        return cls((_dumps(value),), status, "application/json", headers or {}, "length")

    @classmethod
    def text(
        cls,
        text: str,
        *,
        status: int = 200,
        kind: str = "text/html",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Answer with a text, by default with a page of HTML as proxies and wrong ports send it."""
        return cls((text.encode(),), status, kind, headers or {}, "length")

    @classmethod
    def sse(cls, *events: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Answer with server-sent events, one block each.

        Args:
            events: what ``data:`` holds: a string as it is, ``bytes`` as the whole block, anything else as
                JSON; a pair ``(name, data)`` sends ``event:``, too.
            status: HTTP status.
            headers: further headers.
        """
        return cls(tuple(map(_sse, events)), status, "text/event-stream", headers or {})

    @classmethod
    def ndjson(cls, *values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Answer with one line of JSON for each value, one block each; ``bytes`` are sent as they are."""
        blocks = (value if isinstance(value, bytes) else _dumps(value) + b"\n" for value in values)
        return cls(tuple(blocks), status, "application/x-ndjson", headers or {})

    @classmethod
    def raw(cls, *blocks: bytes) -> Reply:
        """Send bytes that are no HTTP, and close the connection."""
        return cls(blocks, bare=True)

    @classmethod
    def websocket(cls, script: SocketScript) -> Reply:
        """Accept a WebSocket and run ``script``, an async function that gets the :class:`WebSocket`."""
        return cls(status=101, script=script)

    def framed(self, framing: Framing) -> Reply:
        """Return the same answer with its end told in another way."""
        return replace(self, framing=framing)

    def head(self) -> bytes:
        """Return status line and headers as they are sent."""
        known = {status.value: status.phrase for status in HTTPStatus}
        headers = {"Content-Type": self.kind} if self.kind else {}
        if self.framing == "length":
            headers["Content-Length"] = str(sum(map(len, self.blocks)))
        elif self.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        if self.framing == "close":
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {known.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in (headers | dict(self.headers)).items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")
