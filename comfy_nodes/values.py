"""What travels between our nodes, and from them to the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lmbridge.errors import InvalidRequest
from lmbridge.events import Result

from .choices import KEEP_ANSWER

if TYPE_CHECKING:
    from lmbridge.chat import Message, Request

    from .requests import Widgets

__all__ = ["Answer", "Conversation"]

_KEPT_NOTE = "this answer was kept: no model was asked"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation so far.

    Attributes:
        messages: all turns, the last answer included; never reasoning.
        connection: where it was held.
        model: the model that answered last.
        response_id: id of the last turn, where the server stores them.
    """

    messages: tuple[Message, ...]
    connection: str
    model: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the chat node gives for one request.

    Attributes:
        result: the answer; its reasoning is shown, but never saved.
        connection: where it comes from.
        request: what was asked.
        index: number of the request within the node.
        error: why the fallback text stands in for an answer, or empty.
    """

    result: Result
    connection: str
    request: Request | None = None
    index: int = 0
    error: str = ""

    @classmethod
    def fallback(cls, widgets: Widgets, error: str, index: int) -> Answer:
        """Return the user's own text in the place of an answer that failed."""
        return cls(Result(text=widgets.fallback_text), widgets.connection, None, index, error)

    @classmethod
    def kept(cls, widgets: Widgets) -> Answer | None:
        """Return the answer that the user has had the node keep, if it is to be given again."""
        if widgets.rerun != KEEP_ANSWER or not widgets.kept_answer.strip():
            return None
        try:
            found = json.loads(widgets.kept_answer)
            text, model = found["text"], found.get("model")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidRequest(
                "the kept answer cannot be read", hint="choose another 'rerun', or keep an answer again"
            ) from None
        result = Result(text=str(text), model=None if model is None else str(model), notes=(_KEPT_NOTE,))
        return cls(result, str(found.get("connection") or widgets.connection), None)

    @property
    def conversation(self) -> Conversation:
        """The turns with the answer."""
        asked = tuple(self.request.messages) if self.request else ()
        turns = (*asked, self.result.message) if self.request else ()
        return Conversation(turns, self.connection, self.result.model, self.result.response_id)

    @property
    def stats(self) -> dict[str, Any]:
        """How it went: connection, model, why it ended, tokens, speed, notes."""
        result = self.result
        told: dict[str, Any] = {"connection": self.connection, "model": result.model}
        if self.error:
            return {**told, "error": self.error}
        usage = {
            name: value for name, value in msgspec.structs.asdict(result.usage).items() if value is not None
        }
        return {
            **told,
            "finish_reason": result.finish_reason,
            "usage": usage,
            **msgspec.to_builtins(result.stats),
            "settings": self.settings,
            "notes": list(result.notes),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The options as they were sent."""
        options = self.result.options
        return {} if options is None else {name: _plain(value) for name, value in options.explicit().items()}

    @property
    def stats_text(self) -> str:
        """:attr:`stats` as JSON."""
        return json.dumps(self.stats, ensure_ascii=False, indent=2)

    def for_page(self) -> dict[str, Any]:
        """Return what the page shows, also when ComfyUI has the node's outputs still in its cache."""
        result = self.result
        return {
            "text": result.text,
            "reasoning": result.reasoning,
            "model": result.model,
            "connection": self.connection,
            "finish_reason": None if self.error else result.finish_reason,
            "stats": self.stats,
            "notes": list(result.notes),
            "error": self.error or None,
            "index": self.index,
        }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
