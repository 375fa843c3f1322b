"""From the bytes of an answer to events: the path that every token takes."""

from collections.abc import Callable
from typing import Any

import msgspec

from lmbridge import failures
from lmbridge.errors import LMBridgeError, ProtocolError, ServerError
from lmbridge.events import Event, Finish, FinishReason, ReasoningDelta, TextDelta
from lmbridge.reasoning import ReasoningSplitter
from lmbridge.sse import ServerSentEvent, SSEDecoder
from lmbridge_openai.lenient import chunk_of, parse
from lmbridge_openai.toolcalls import ToolCalls
from lmbridge_openai.usage import stats_of, usage_of
from lmbridge_openai.wire import Choice, Chunk, Delta, Fast, FastDelta, ToolCall

__all__ = ["AnswerDecoder"]

_DONE = b"[DONE]"
#: A server that cuts a character in two sends bytes that are no UTF-8; a hostile one nests without end.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NO_DELTA = Delta()
_NO_TEXT = FastDelta()
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "abort": "cancelled",
    "cancelled": "cancelled",
}
_FAILED = frozenset({"error", "insufficient_system_resource"})
_EMPTY = "the answer ended without a single token"
_EMPTY_HINT = (
    "some servers end so when the prompt does not fit the context that the model is loaded with: "
    "shorten the prompt, or load the model with a larger context length"
)

_decode_fast = msgspec.json.Decoder(Fast).decode
_decode_chunk = msgspec.json.Decoder(Chunk).decode


class AnswerDecoder:
    """Decodes one answer of ``/v1/chat/completions`` or ``/v1/completions``, streamed or not.

    Args:
        note: takes a sentence for ``Finish.notes``.
        chat: the text may hold inline reasoning; ``False`` for plain completions, which are passed on as
            they are.
        wants_json: a form was asked for; an answer that arrives as reasoning only is then looked at.
        model: name of the requested model, for messages.

    Attributes:
        done: the server's end mark has come; what follows is no part of the answer.
    """

    __slots__ = (
        "_calls",
        "_finish",
        "_left",
        "_model",
        "_note",
        "_requested",
        "_splitter",
        "_spoke",
        "_sse",
        "_text",
        "_thoughts",
        "_timings",
        "_usage",
        "done",
    )

    def __init__(
        self,
        note: Callable[[str], None],
        *,
        chat: bool = True,
        wants_json: bool = False,
        model: str | None = None,
    ) -> None:
        self._note = note
        self._requested = model
        self._sse = SSEDecoder()
        self._splitter = ReasoningSplitter() if chat else None
        self._calls = ToolCalls()
        self._left: list[Event] = []  # what came in the same block before an error
        self._finish: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] | None = None
        self._timings: dict[str, Any] | None = None
        self._thoughts: list[str] | None = [] if wants_json else None
        self._text = False  # an answer beyond white space was passed on
        self._spoke = False
        self.done = False

    # -- the stream ------------------------------------------------------------------------------------

    def feed(self, block: bytes) -> list[Event]:
        """Return the events that a block of the stream completes, in order; may be empty.

        Raises:
            LMBridgeError: the server reports an error in the stream, or sends what is no chunk; what the
                block held before that is in :meth:`left`.
        """
        found = self._sse.feed(block)
        if len(found) == 1 and (lone := self._lone(found[0][1])) is not None:
            return lone
        events: list[Event] = []
        try:
            self._take_all(found, events)
        except LMBridgeError:
            self._left = events
            raise
        return events

    def _take_all(self, found: list[ServerSentEvent], events: list[Event]) -> None:
        texts: list[str] = []
        add, chunk = texts.append, None
        pending = iter(found)
        for name, data in pending:
            try:
                chunk = _decode_fast(data)
                delta = chunk.choices[0].delta
            except _UNREADABLE:
                delta = _NO_TEXT
            thought = delta.reasoning_content or delta.reasoning
            if not thought and delta.content:
                add(delta.content)
                continue
            if texts:
                self._flush(texts, events)
            if thought:
                events.append(ReasoningDelta(thought))
                self._flush([delta.content or ""], events)
            elif self._slow(name, data, events):
                break
        # Behind the finish reason come usage and the end mark, which the fast way would only refuse.
        while not self.done and (last := next(pending, None)) is not None:
            self._slow(*last, events)
        self._flush(texts, events)
        if chunk is not None and self._model is None:
            self._model = chunk.model
        self._remember(events)

    def left(self) -> list[Event]:
        """Return what came before an error and is not given yet; a part of what might be a tag is text."""
        left, self._left = self._left, []
        if self._splitter is not None:
            left += self._splitter.close()
        return left

    def _lone(self, data: bytes) -> list[Event] | None:
        """Take one event of plain text, which is what a block holds while a server generates.

        Returns ``None`` for anything else, and while there is something to watch for.
        """
        if self._splitter is None or self._model is None or self._thoughts is not None:
            return None
        try:
            delta = _decode_fast(data).choices[0].delta
        except _UNREADABLE:
            return None
        if not delta.content or delta.reasoning_content or delta.reasoning:
            return None
        self._spoke = True
        return [*self._splitter.feed(delta.content)]

    def _flush(self, texts: list[str], events: list[Event]) -> None:
        """Turn pieces of text into events, and empty ``texts``."""
        if self._splitter is None:
            events.extend(map(TextDelta, texts))
        elif texts:
            events.extend(self._splitter.feed_all(texts))
        texts.clear()

    def _remember(self, events: list[Event]) -> None:
        if not events:
            return
        self._spoke = True
        if self._thoughts is not None and not self._text:
            for event in events:
                if type(event) is ReasoningDelta:
                    self._thoughts.append(event.text)
                elif type(event) is TextDelta and not event.text.isspace():
                    self._text = True

    def end(self) -> list[Event]:
        """Return the last events; the connection has ended in good order, or :attr:`done` is set.

        Raises:
            ProtocolError: the server's end mark is missing, or there is no answer at all.
        """
        events = self._left
        if not self.done and (rest := self._sse.close()) is not None:
            self._last(*rest, events)
        if not self.done and self._finish is None:
            if not self._spoke:
                raise ProtocolError(_EMPTY, hint=_EMPTY_HINT)
            raise ProtocolError("the answer ended without the server's end mark", retryable=True)
        if not self.done:
            self._note("the server closed the stream without its [DONE] mark")
        events += self._ending()
        self._left = []
        return events

    def _last(self, name: bytes | None, data: bytes, events: list[Event]) -> None:
        """Take the event that the stream ended inside of, if it is whole."""
        if data.strip() != _DONE:
            try:
                parse(data)
            except msgspec.DecodeError as exc:
                raise ProtocolError("the answer broke off within an event", retryable=True) from exc
        self._slow(name, data, events)
        self._remember(events)

    # -- one event, the long way -----------------------------------------------------------------------

    def _slow(self, name: bytes | None, data: bytes, events: list[Event]) -> bool:
        """Take an event of any kind, and return whether the answer is at its end."""
        data = data.strip()
        if data == _DONE:
            self.done = True
        elif data or name == b"error":
            self._take(self._read(name, data), events)
        return self.done or self._finish is not None

    def _read(self, name: bytes | None, data: bytes) -> Chunk:
        """Decode one event.

        Raises:
            LMBridgeError: the error that the event reports; ``ProtocolError`` if it is not JSON.
        """
        try:
            chunk = _decode_chunk(data)
        except _UNREADABLE:
            try:
                value = parse(data)
            except msgspec.DecodeError as exc:
                if name == b"error":
                    raise self._failure(data) from exc
                raise ProtocolError("the server sent an event that is no JSON") from exc
            chunk = chunk_of(value)
        if chunk.error or name == b"error" or (not chunk.choices and chunk.usage is None):
            self._check_error(name, data)
        return chunk

    def _check_error(self, name: bytes | None, data: bytes) -> None:
        value = parse(data)
        error = failures.error_in(value, model=self._requested) if isinstance(value, dict) else None
        if error is not None:
            raise error
        if name == b"error":
            raise self._failure(data)

    def _failure(self, data: bytes) -> LMBridgeError:
        return failures.from_body(500, data, {}, model=self._requested)

    def _take(self, chunk: Chunk, events: list[Event]) -> None:
        self._model = self._model or chunk.model
        self._usage = chunk.usage or self._usage
        self._timings = chunk.timings or self._timings
        for choice in chunk.choices or ():
            if choice.index:
                self._note("the server sent more than one answer; only the first was used")
            else:
                self._take_choice(choice, events)

    def _take_choice(self, choice: Choice, events: list[Event]) -> None:
        delta = choice.delta
        if delta is None and not self._spoke and not events:
            delta = choice.message
        if delta is not None and delta != _NO_DELTA:
            self._take_delta(delta, events)
        if choice.text:
            self._flush([choice.text], events)
        if choice.finish_reason:
            self._finish = choice.finish_reason
        if choice.finish_reason in _FAILED or choice.error:
            raise self._broken(choice)

    def _broken(self, choice: Choice) -> LMBridgeError:
        error = failures.error_in({"error": choice.error}, model=self._requested) if choice.error else None
        return error or ServerError(f"the server gave up the answer ({choice.finish_reason})")

    def _take_delta(self, delta: Delta, events: list[Event]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if not thought and delta.reasoning_details:
            thought = _thought_in(delta.reasoning_details)
        if thought:
            events.append(ReasoningDelta(thought))
        if delta.content:
            self._flush([delta.content], events)
        if delta.refusal:
            self._note("the model refused; the answer is its refusal")
            self._flush([delta.refusal], events)
        if delta.tool_calls:
            events.extend(map(self._calls.add, delta.tool_calls))
        if delta.function_call is not None:
            events.append(self._calls.add(ToolCall(index=0, function=delta.function_call)))

    # -- an answer that is not streamed ----------------------------------------------------------------

    def whole(self, body: bytes) -> list[Event]:
        """Return all events of an answer that came as one JSON object, because the server cannot stream.

        Raises:
            LMBridgeError: the body is an error, or no answer.
        """
        events: list[Event] = []
        try:
            chunk = self._read(None, body)
        except ProtocolError as exc:
            if body.lstrip()[:1] == b"<":
                raise failures.from_body(200, body, {}, model=self._requested) from exc
            raise ProtocolError("the answer is no JSON", hint="is this the right port and path?") from exc
        if not chunk.choices:
            raise ProtocolError(
                "the server's answer holds no choice", hint="is this the right port and path?"
            )
        self._take(chunk, events)
        self._remember(events)
        self._note("the server did not stream: the answer came in one piece")
        self.done = True
        return [*events, *self._ending()]

    # -- the end ---------------------------------------------------------------------------------------

    def _ending(self) -> list[Event]:
        events: list[Event] = []
        if self._splitter is not None:
            events.extend(self._splitter.close())
            self._remember(events)
            if self._splitter.note:
                self._note(self._splitter.note)
        if not self._spoke and self._finish is None:
            raise ProtocolError(_EMPTY, hint=_EMPTY_HINT)
        events.extend(self._rescued())
        usage = usage_of(self._usage)
        if usage is not None:
            events.append(usage)
        events.append(Finish(self._reason(), self._model, stats_of(self._timings)))
        return events

    def _rescued(self) -> list[TextDelta]:
        """Return the answer that the server sent as reasoning.

        Thinking models under a schema do so on LM Studio, and leave the text empty (observed,
        lmstudio-bug-tracker#1698).
        """
        if self._text or not self._thoughts or self._calls:
            return []
        text = "".join(self._thoughts).strip()
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return []
        if not isinstance(value, dict | list):
            return []
        self._note("the server sent the structured answer as reasoning; it is given as text as well")
        return [TextDelta(text)]

    def _reason(self) -> FinishReason:
        if self._finish is None:
            self._note("the server did not say why the model stopped")
            return "tool_calls" if self._calls else "stop"
        reason = _REASONS.get(self._finish)
        if reason is None:
            self._note(f"the server says that the model stopped because of {self._finish!r}")
            reason = "stop"
        # With a tool that had to be called, OpenAI itself says "stop".
        return "tool_calls" if reason == "stop" and self._calls else reason


def _thought_in(details: list[dict[str, Any]]) -> str:
    """Return the reasoning that only OpenRouter's ``reasoning_details`` holds."""
    texts = (item.get("text") or item.get("summary") for item in details)
    return "".join(text for text in texts if isinstance(text, str))
