"""The content blocks of an answer as they grow, and the events that tell of it.

A whole answer is made of the same steps as a stream, so that the two can never differ.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import events
from lmbridge.emulator.leaks import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.emulator.core import Core
    from lmbridge.emulator.events import EngineEvent
    from lmbridge.emulator.job import Job

Event = tuple[str, dict[str, Any]]
"""The name of an event and its fields."""


class Blocks:
    """Folds the events of a prediction into content blocks, and says what has changed.

    Args:
        core: the emulator.
        job: what is predicted.

    Attributes:
        content: the blocks so far.
    """

    def __init__(self, core: Core, job: Job) -> None:
        self._core = core
        self._job = job
        self._open = False
        self.content: list[dict[str, Any]] = []

    def feed(self, event: EngineEvent) -> Iterator[Event]:
        """Yield the events that an engine's event leads to. It must be iterated to its end."""
        if isinstance(event, events.Token):
            placed = place(self._core.settings, self._job.model, event)
            if placed is not None:
                yield from self._say("text" if placed[0] == "content" else "thinking", placed[1])
        elif isinstance(event, events.PieceEnds):
            kind = "text" if event.kind == "message" else "thinking"
            if self._open and self.content[-1]["type"] == kind:
                yield from self.close()
        elif isinstance(event, events.CallBegins):
            yield from self._begin(
                {"type": "tool_use", "id": event.call.id, "name": event.call.name, "input": {}}
            )
        elif isinstance(event, events.CallArguments):
            yield self._delta("input_json_delta", partial_json=event.text)
        elif isinstance(event, events.CallEnds):
            self.content[-1]["input"] = event.call.arguments
            yield from self.close()

    def close(self) -> Iterator[Event]:
        """Yield the end of the open block, if there is one."""
        if not self._open:
            return
        self._open = False
        block = self.content[-1]
        if block["type"] == "thinking":
            # Made up: whether and how the real server signs is not known.
            block["signature"] = hashlib.sha256(
                block["thinking"].encode("utf-8", "surrogatepass")
            ).hexdigest()
            yield self._delta("signature_delta", signature=block["signature"])
        yield "content_block_stop", {"index": len(self.content) - 1}

    def _say(self, kind: str, text: str) -> Iterator[Event]:
        if not self._open or self.content[-1]["type"] != kind:
            more = {"signature": ""} if kind == "thinking" else {}
            yield from self._begin({"type": kind, kind: "", **more})
        self.content[-1][kind] += text
        yield self._delta(f"{kind}_delta", **{kind: text})

    def _begin(self, block: dict[str, Any]) -> Iterator[Event]:
        yield from self.close()
        self._open = True
        self.content.append(block)
        yield "content_block_start", {"index": len(self.content) - 1, "content_block": dict(block)}

    def _delta(self, kind: str, **fields: Any) -> Event:
        return "content_block_delta", {"index": len(self.content) - 1, "delta": {"type": kind, **fields}}
