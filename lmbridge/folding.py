"""Folding a stream of events into a result."""

from collections.abc import AsyncIterable

from lmbridge.chat import ToolCallPart
from lmbridge.errors import ProtocolError
from lmbridge.events import (
    Event,
    Finish,
    Progress,
    ReasoningDelta,
    Result,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)

__all__ = ["Fold", "fold", "unfold"]


class _Call:
    __slots__ = ("arguments", "id", "name", "server_executed")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.server_executed = False


class Fold:
    """Collects events.

    ``text``, ``reasoning`` and ``tool_calls`` are there at any time, so a partial answer is never lost;
    :meth:`result` asks for the whole one.
    """

    __slots__ = ("_calls", "_finish", "_reasoning", "_results", "_text", "_usage")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._results: list[ToolResult] = []
        self._usage = Usage()
        self._finish: Finish | None = None

    def add(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta():
                self._text.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallDelta():
                self._add_call(event)
            case ToolResult():
                self._results.append(event)
            case Usage():
                self._usage = event
            case Finish():
                self._finish = event
            case Progress():
                pass

    def _add_call(self, delta: ToolCallDelta) -> None:
        call = self._calls.setdefault(delta.index, _Call())
        call.id = delta.id or call.id
        call.name = delta.name or call.name
        call.server_executed |= delta.server_executed
        call.arguments.append(delta.arguments)

    @property
    def finished(self) -> bool:
        """Whether the ``Finish`` has come."""
        return self._finish is not None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The thinking so far."""
        return "".join(self._reasoning)

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls so far; a call without an id gets ``call_<index>``."""
        return tuple(
            ToolCallPart(
                call.id or f"call_{index}", call.name, "".join(call.arguments) or "{}", call.server_executed
            )
            for index, call in sorted(self._calls.items())
        )

    def result(self) -> Result:
        """Return everything as a :class:`Result`.

        Raises:
            ProtocolError: no ``Finish`` has come, so the answer is incomplete.
        """
        if self._finish is None:
            raise ProtocolError("the answer ended without its end mark")
        finish = self._finish
        return Result(
            text=self.text,
            reasoning=self.reasoning,
            tool_calls=self.tool_calls,
            tool_results=tuple(self._results),
            finish_reason=finish.reason,
            usage=self._usage,
            stats=finish.stats,
            model=finish.model,
            response_id=finish.response_id,
            notes=finish.notes,
            options=finish.options,
        )


async def fold(events: AsyncIterable[Event]) -> Result:
    """Read ``events`` to their end and return the result.

    Raises:
        ProtocolError: the stream ended without a ``Finish``.
        LMBridgeError: whatever the stream raises.
    """
    collected = Fold()
    async for event in events:
        collected.add(event)
    return collected.result()


def unfold(result: Result) -> list[Event]:
    """Return a whole answer as the events that fold into it."""
    events: list[Event] = []
    if result.reasoning:
        events.append(ReasoningDelta(result.reasoning))
    if result.text:
        events.append(TextDelta(result.text))
    events += [
        ToolCallDelta(index, call.id, call.name, call.arguments, call.server_executed)
        for index, call in enumerate(result.tool_calls)
    ]
    events += result.tool_results
    if result.usage != Usage():
        events.append(result.usage)
    events.append(
        Finish(
            result.finish_reason, result.model, result.stats, result.response_id, result.notes, result.options
        )
    )
    return events
