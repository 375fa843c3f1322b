"""From the named events of ``POST /api/v1/chat`` to our events (LM Studio docs, rest/streaming-events)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lmbridge import failures
from lmbridge.errors import ServerError
from lmbridge.events import Finish, Progress, ReasoningDelta, Stats, Usage
from lmbridge.reasoning import ReasoningSplitter

from .tools import ToolCalls
from .wire import as_dict, as_list, as_number, as_text, as_whole, decode_delta, decode_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lmbridge.context import Context
    from lmbridge.events import Event, FinishReason, Phase
    from lmbridge.sse import ServerSentEvent

__all__ = ["ChatDecoder"]

# Also a field of another type, and what is no UTF-8.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ChatDecoder:
    """Decodes one answer: events up to ``chat.end``, or one whole body.

    Args:
        context: takes notes about oddities.
        model: the requested model, for messages.
        max_tokens: the limit that was sent: the wire has no finish reason, so only the count tells that
            the answer was cut.
    """

    def __init__(self, context: Context, *, model: str | None = None, max_tokens: int | None = None) -> None:
        self._ended = False
        self._final: Mapping[str, Any] = {}
        self._silent = True
        self._context = context
        self._model = model
        self._max_tokens = max_tokens
        self._splitter = ReasoningSplitter()
        self.tools = ToolCalls()
        self._message: list[str] = []  # what was streamed, to be compared with the final body
        self._reasoning: list[str] = []
        self._load_seconds: float | None = None
        self._reported: Progress | None = None

    @property
    def silent(self) -> bool:
        """Whether nothing but ``chat.start`` and reports of a load have come."""
        return self._silent and not self._message and not self._reasoning

    def feed(self, received: list[ServerSentEvent], events: list[Event]) -> bool:
        """Append to ``events`` what ``received`` means, and return whether ``chat.end`` has come.

        ``events`` is given, not returned, so that what came before an error is not lost.

        Raises:
            LMBridgeError: the server reports a failure.
            ProtocolError: an event is not JSON.
        """
        texts: list[str] = []
        for name, data in received:
            try:
                delta = decode_delta(data)
                kind, content = delta.type, delta.content
            except _UNREADABLE:
                kind = content = ""
            if kind == "message.delta":
                texts.append(content)
                continue
            if texts:
                events += self._texts(texts)
                texts.clear()
            if kind == "reasoning.delta" and content:
                self._reasoning.append(content)
                events.append(ReasoningDelta(content))
            elif (handler := _WITHOUT_DATA.get(kind)) is not None:
                self._silent = False
                events += handler(self)
            elif kind != "chat.start":
                self._other(name, data, events)
                if self._ended:
                    return True
        if texts:
            events += self._texts(texts)
        return False

    def _texts(self, texts: list[str]) -> list[Any]:
        self._message += texts
        return self._splitter.feed_all(texts)

    def _other(self, name: bytes | None, data: bytes, events: list[Event]) -> None:
        """Take one of the events that are few."""
        told = decode_object(data)
        kind = as_text(told.get("type")) or (name or b"").decode("utf-8", "replace")
        self._silent = self._silent and kind in _BEFORE_WORK
        handler, plain = _HANDLERS.get(kind), _WITHOUT_DATA.get(kind)
        if handler is not None:
            events += handler(self, told)
        elif plain is not None:
            events += plain(self)
        elif kind == "error" or "error" in told:
            raise self._failure(told)

    def _failure(self, told: Mapping[str, Any]) -> Exception:
        error = failures.error_in(told, model=self._model)
        return error or ServerError("the server reports a failure without saying which")

    # -- the pieces ------------------------------------------------------------------------------------

    def text(self, text: str) -> list[Any]:
        """Take a piece of the answer, which may hold tags."""
        self._message.append(text)
        return self._splitter.feed(text)

    def close_text(self) -> list[Any]:
        """End one message; another may follow behind a tool call, with tags of its own."""
        rest = self._splitter.close()
        if self._splitter.note:
            self._context.note(self._splitter.note)
        self._splitter = ReasoningSplitter()
        return rest

    def thought(self, text: str) -> list[Event]:
        """Take a piece of the thinking."""
        self._reasoning.append(text)
        return [ReasoningDelta(text)] if text else []

    def progress(self, phase: Phase, fraction: Any) -> list[Event]:
        """Take a report of what the server does before it answers."""
        if self._message or self._reasoning or self.tools.begun:
            return []  # the answer has begun: this is the prompt of the next round, behind a tool call
        number = as_number(fraction)
        report = Progress(phase, None if number is None else min(1.0, float(number)))
        if report == self._reported:  # the first report is also the start, and the last one the end
            return []
        self._reported = report
        return [report]

    def loaded(self, data: Mapping[str, Any]) -> list[Event]:
        """Take the end of a load."""
        self._load_seconds = as_number(data.get("load_time_seconds"))
        return self.progress("loading model", 1.0)

    # -- the end ---------------------------------------------------------------------------------------

    def end_with(self, body: Mapping[str, Any]) -> tuple[()]:
        """Take the final body; what it means is told by :meth:`ending`."""
        self._ended = True
        self._final = body
        return ()

    def ending(self) -> list[Event]:
        """Return the end of the answer, with everything of the final body that was not streamed before."""
        body = self._final
        output = [as_dict(item) for item in as_list(body.get("output"))]
        events = [*self._missing(output), *self.close_text()]
        stats = as_dict(body.get("stats"))
        usage = _usage(stats)
        if usage is not None:
            events.append(usage)
        if not (self._message or self._reasoning or self.tools.begun):
            self._context.note(
                "the model generated nothing; with some engines that means that the prompt does not fit "
                "the context"
            )
        events.append(
            Finish(
                self._reason(usage),
                as_text(body.get("model_instance_id")),
                self._stats(stats),
                as_text(body.get("response_id")),
            )
        )
        return events

    def _missing(self, output: list[Mapping[str, Any]]) -> list[Event]:
        """Return what is in the final output only, in the order of the output where nothing was streamed."""
        if not (self._message or self._reasoning or self.tools.begun):
            return [event for item in output for event in self._item(item)]
        thought = self._rest("reasoning", self._reasoning, output)
        text = self._rest("message", self._message, output)
        tools = [item for item in output if item.get("type") in {"tool_call", "invalid_tool_call"}]
        unseen = tools[self.tools.ended :]
        return [
            *(self.thought(thought) if thought else ()),
            *(event for item in unseen for event in self._item(item)),
            *(self.text(text) if text else ()),
        ]

    def _item(self, item: Mapping[str, Any]) -> Iterable[Event]:
        match item.get("type"):
            case "message":
                return [*self.text(_content(item)), *self.close_text()]
            case "reasoning":
                return self.thought(_content(item))
            case "tool_call":
                return self.tools.success(item)
            case "invalid_tool_call":
                return self.tools.failure(item)
            case _:
                return ()

    def _rest(self, kind: str, streamed: list[str], output: list[Mapping[str, Any]]) -> str:
        final = "".join(_content(item) for item in output if item.get("type") == kind)
        sent = "".join(streamed)
        if final.startswith(sent):
            return final[len(sent) :]
        if final.strip() not in sent:
            self._context.note(f"the final {kind} differs from what was streamed, which is what is shown")
        return ""

    def _reason(self, usage: Usage | None) -> FinishReason:
        """Infer why the answer ended, which the wire does not tell: the limit was reached, or not."""
        generated = usage.completion_tokens if usage else None
        if self._max_tokens is not None and generated is not None and generated >= self._max_tokens:
            return "length"
        return "stop"

    def _stats(self, stats: Mapping[str, Any]) -> Stats:
        return Stats(
            time_to_first_token=as_number(stats.get("time_to_first_token_seconds")),
            tokens_per_second=as_number(stats.get("tokens_per_second")),
            load_seconds=as_number(stats.get("model_load_time_seconds")) or self._load_seconds,
        )


_BEFORE_WORK = frozenset({"model_load.start", "model_load.progress", "model_load.end"})

#: Events whose name says all; the begin and end of what is streamed say no more than what lies between.
_WITHOUT_DATA: dict[str, Callable[[ChatDecoder], Iterable[Event]]] = {
    "message.start": lambda _self: (),
    "message.end": lambda self: self.close_text(),
    "reasoning.start": lambda _self: (),
    "reasoning.end": lambda _self: (),
    "prompt_processing.start": lambda self: self.progress("reading prompt", 0.0),
    "prompt_processing.end": lambda self: self.progress("reading prompt", 1.0),
}

_HANDLERS: dict[str, Callable[[ChatDecoder, Mapping[str, Any]], Iterable[Event]]] = {
    "message.delta": lambda self, data: self.text(_content(data)),
    "reasoning.delta": lambda self, data: self.thought(_content(data)),
    "model_load.start": lambda self, _data: self.progress("loading model", 0.0),
    "model_load.progress": lambda self, data: self.progress("loading model", data.get("progress")),
    "model_load.end": lambda self, data: self.loaded(data),
    "prompt_processing.progress": lambda self, data: self.progress("reading prompt", data.get("progress")),
    "tool_call.start": lambda self, data: self.tools.start(data),
    "tool_call.arguments": lambda self, data: self.tools.arguments(data),
    "tool_call.success": lambda self, data: self.tools.success(data),
    "tool_call.failure": lambda self, data: self.tools.failure(data),
    "chat.end": lambda self, data: self.end_with(as_dict(data.get("result"))),
}
"""Events that are none of these are ignored: newer servers have more."""


def _content(data: Mapping[str, Any]) -> str:
    content = data.get("content")
    return content if isinstance(content, str) else ""


def _usage(stats: Mapping[str, Any]) -> Usage | None:
    prompt = as_whole(stats.get("input_tokens"))
    generated = as_whole(stats.get("total_output_tokens"))
    thinking = as_whole(stats.get("reasoning_output_tokens"))
    if prompt is None and generated is None:
        return None
    total = None if prompt is None or generated is None else prompt + generated
    return Usage(prompt, generated, total, thinking)
