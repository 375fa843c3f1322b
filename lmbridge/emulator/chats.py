"""Conversations that the server keeps, so that a response can be continued by its id."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    from lmbridge.emulator.conversation import Conversation
    from lmbridge.emulator.ids import Ids

MAX_CHATS = 2000
MAX_CHAT_BYTES = 256 * 1024 * 1024
"""Stored conversations and their size, pictures included; the oldest are forgotten."""


class Chats:
    """Conversations that `/api/v1/chat` and `/v1/responses` stored; each can be continued more than once."""

    def __init__(self, ids: Ids, limit: int = MAX_CHATS, limit_bytes: int = MAX_CHAT_BYTES) -> None:
        self._ids = ids
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._chats: OrderedDict[str, Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._chats)

    def new_id(self) -> str:
        """Return `resp_` and 48 hexadecimal digits."""
        return f"resp_{self._ids.hexadecimal(48)}"

    def store(self, response_id: str, turns: Conversation) -> None:
        """Remember a conversation up to and with this response."""
        self._chats[response_id] = turns
        self._bytes += _size(turns)
        while len(self._chats) > self._limit or (self._bytes > self._limit_bytes and len(self._chats) > 1):
            self._bytes -= _size(self._chats.popitem(last=False)[1])

    def find(self, response_id: str) -> Conversation | None:
        """Return the conversation up to and with a response, None if it is unknown."""
        return self._chats.get(response_id)

    def get(self, response_id: str) -> Conversation:
        """Return the conversation up to and with a response, for `/api/v1/chat`.

        Raises:
            EmulatedError: it is unknown, or no response id at all (the texts are assumed).
        """
        param = "previous_response_id"
        if not response_id.startswith("resp_"):
            message = f"'{param}' must start with 'resp_'."
            raise EmulatedError(message, code="invalid_string", param=param)
        if response_id not in self._chats:
            message = f"Response with id '{response_id}' not found."
            raise EmulatedError(message, status=404, code="not_found", param=param)
        return self._chats[response_id]


def _size(turns: Conversation) -> int:
    return sum(len(turn.text) + sum(len(picture.data) for picture in turn.pictures) for turn in turns)
