"""What the server has seen of a request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Asked"]


@dataclass(slots=True, eq=False)
class Asked:
    """One request, as it came. Its ``repr`` shows no header, because headers hold keys.

    Attributes:
        method: e.g. ``"POST"``.
        path: with its query.
        headers: by lower-case name.
        body: of the request; empty for a WebSocket.
        messages: what the client has sent over a WebSocket: ``str`` or ``bytes``.
        sent: what of the answer's body has been sent.
        answered: the answer was sent to its end.
        left: the client closed the connection before that.
    """

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    messages: list[str | bytes] = field(default_factory=list, repr=False)
    sent: bytearray = field(default_factory=bytearray, repr=False)
    answered: bool = False
    left: bool = False

    @property
    def route(self) -> str:
        """Method and path without the query, e.g. ``"POST /chat"``."""
        return f"{self.method} {self.path.partition('?')[0]}"

    @property
    def json(self) -> Any:
        """The decoded body, or ``None`` if there is none."""
        return json.loads(self.body) if self.body else None

    @property
    def bytes(self) -> bytes:
        """Everything of the content that the client sent: body and messages."""
        texts = (item.encode() if isinstance(item, str) else item for item in self.messages)
        return b"\n".join((self.body, *texts))
