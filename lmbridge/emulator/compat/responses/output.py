"""The output items of a response as they grow, and the events that tell of it.

A whole answer is made of the same steps as a stream, so that the two can never differ.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import events
from lmbridge.emulator.leaks import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.emulator.core import Core
    from lmbridge.emulator.events import EngineEvent
    from lmbridge.emulator.job import Job

Event = tuple[str, dict[str, Any]]
"""The name of an event without `response.`, and its fields."""

_PART = {"message": "output_text", "reasoning": "reasoning_text"}


class Output:
    """Folds the events of a prediction into items, and says what has changed.

    Args:
        core: the emulator.
        job: what is predicted.

    Attributes:
        items: the output so far.
    """

    def __init__(self, core: Core, job: Job) -> None:
        self._core = core
        self._job = job
        self.items: list[dict[str, Any]] = []
        self._piece: dict[str, Any] | None = None
        """The message or the reasoning that is being written."""
        self._text = ""

    def feed(self, event: EngineEvent) -> Iterator[Event]:
        """Yield the events that an engine's event leads to. It must be iterated to its end."""
        if isinstance(event, events.Begins):
            yield from self._servers()
        elif isinstance(event, events.Token) and event.kind == "structure":
            yield from self._server_arguments(event.text)
        elif isinstance(event, events.Token):
            placed = place(self._core.settings, self._job.model, event)
            if placed is not None:
                yield from self._say("message" if placed[0] == "content" else "reasoning", placed[1])
        elif isinstance(event, events.PieceEnds):
            if self._piece is not None and self._piece["type"] == event.kind:
                yield from self.close()
        elif isinstance(event, events.ServerTool):
            yield from self._server_tool(event)
        else:
            yield from self._call(event)

    def close(self, status: str = "completed") -> Iterator[Event]:
        """Yield the end of the open message or reasoning, if there is one."""
        item, text = self._piece, self._text
        if item is None:
            return
        self._piece = None
        kind = _PART[item["type"]]
        part: dict[str, Any] = {"type": kind, "text": text}
        done: dict[str, Any] = {"text": text}
        if kind == "output_text":
            part |= {"annotations": [], "logprobs": []}
            done["logprobs"] = []
        item["content"] = [part]
        if "status" in item:
            item["status"] = status
        yield f"{kind}.done", self._at(item, content_index=0, **done)
        yield "content_part.done", self._at(item, content_index=0, part=part)
        yield self._done(item)

    # Text

    def _say(self, kind: str, text: str) -> Iterator[Event]:
        if self._piece is None or self._piece["type"] != kind:
            yield from self.close()
            yield from self._open(kind)
        item = self._piece
        if item is None:
            raise RuntimeError("a piece was opened")
        self._text += text
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        yield f"{_PART[kind]}.delta", self._at(item, content_index=0, delta=text, **more)

    def _open(self, kind: str) -> Iterator[Event]:
        if kind == "message":
            item = self._new("msg", "message", status="in_progress", role="assistant", content=[])
            part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            item = self._new("rs", "reasoning", summary=[], content=[])
            part = {"type": "reasoning_text", "text": ""}
        self._piece, self._text = item, ""
        yield self._added(item)
        yield "content_part.added", self._at(item, content_index=0, part=part)

    # The client's tools

    def _call(self, event: EngineEvent) -> Iterator[Event]:
        if isinstance(event, events.CallBegins):
            yield from self.close()
            fields = {"status": "in_progress", "arguments": "", "call_id": event.call.id}
            item = self._new("fc", "function_call", **fields, name=event.call.name)
            yield self._added(item)
        elif isinstance(event, events.CallArguments):
            item = self.items[-1]
            item["arguments"] += event.text
            yield "function_call_arguments.delta", self._at(item, delta=event.text)
        elif isinstance(event, events.CallEnds):
            item = self.items[-1]
            item["status"] = "completed"
            yield "function_call_arguments.done", self._at(item, arguments=item["arguments"])
            yield self._done(item)

    # MCP

    def _servers(self) -> Iterator[Event]:
        for server in self._job.integrations:
            item = self._new("mcpl", "mcp_list_tools", server_label=server.label, tools=[])
            yield self._added(item)
            yield "mcp_list_tools.in_progress", self._at(item)
            if server.problem is not None:
                yield "mcp_list_tools.failed", self._at(item)
                continue
            item["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in server.tools
            ]
            yield "mcp_list_tools.completed", self._at(item)
            yield self._done(item)

    def _server_tool(self, event: events.ServerTool) -> Iterator[Event]:
        if event.stage == "start":
            yield from self._server_call(event.item["tool"], event.server)
            return
        if event.stage == "failure" and not self._calling():
            yield from self._server_call(event.item["metadata"]["tool_name"], event.server)
        item = self.items[-1]
        if event.stage == "arguments":
            item["arguments"] = json.dumps(event.item["arguments"], ensure_ascii=False)
            yield "mcp_call_arguments.done", self._at(item, arguments=item["arguments"])
            return
        failed = event.stage == "failure"
        item["status"] = "failed" if failed else "completed"
        item["error" if failed else "output"] = event.item["reason" if failed else "output"]
        yield f"mcp_call.{item['status']}", self._at(item)
        yield self._done(item)

    def _server_call(self, name: str, label: str) -> Iterator[Event]:
        yield from self.close()
        fields: dict[str, Any] = {"status": "in_progress", "approval_request_id": None, "arguments": ""}
        fields |= {"error": None, "name": name, "output": None, "server_label": label}
        item = self._new("mcp", "mcp_call", **fields)
        yield self._added(item)
        yield "mcp_call.in_progress", self._at(item)

    def _calling(self) -> bool:
        last = self.items[-1] if self.items else {}
        return last.get("type") == "mcp_call" and last.get("status") == "in_progress"

    def _server_arguments(self, text: str) -> Iterator[Event]:
        """Yield a token of a server tool's arguments; the client's tools have events of their own."""
        if self._calling():
            yield "mcp_call_arguments.delta", self._at(self.items[-1], delta=text)

    # What all items share

    def _new(self, prefix: str, kind: str, **fields: Any) -> dict[str, Any]:
        item = {"id": f"{prefix}_{self._core.ids.base36(21)}", "type": kind, **fields}
        self.items.append(item)
        return item

    def _at(self, item: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._index(item), **fields}

    def _index(self, item: dict[str, Any]) -> int:
        return next(index for index, entry in enumerate(self.items) if entry is item)

    def _added(self, item: dict[str, Any]) -> Event:
        return "output_item.added", {"output_index": self._index(item), "item": dict(item)}

    def _done(self, item: dict[str, Any]) -> Event:
        return "output_item.done", {"output_index": self._index(item), "item": dict(item)}
