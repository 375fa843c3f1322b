"""The packets of a prediction, decoded into events.

Packets and their fields: LM Studio's own schemas, lmstudio-js ``llm-prediction`` and ``lms-communication``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from lmbridge.errors import ProtocolError, ServerError
from lmbridge.events import (
    Event,
    Finish,
    FinishReason,
    Progress,
    ReasoningDelta,
    Stats,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from lmbridge.reasoning import ReasoningSplitter

if TYPE_CHECKING:
    from lmbridge.context import Context

__all__ = ["PacketReader"]

Packet = Mapping[str, Any]

#: LM Studio's reasons, and ours. ``modelUnloaded`` and ``failed`` are errors.
_REASONS: dict[str, FinishReason] = {
    "eosFound": "stop",
    "stopStringFound": "stop",
    "toolCalls": "tool_calls",
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
    "userStopped": "cancelled",
}
_FAILURES = {
    "modelUnloaded": (
        "the model was unloaded in the middle of the answer",
        "another request or program had it unloaded; a model that you load yourself stays",
    ),
    "failed": ("the server gave up in the middle of the answer", "the server's log says why"),
}
#: The marker that LM Studio leaks, where it stands in a fragment marked as reasoning.
_MARKER = re.compile(r"__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_(?:START|END)_[0-9a-f]{1,64}__")
_TAGS = frozenset({"reasoningStartTag", "reasoningEndTag"})


class PacketReader:
    """Turns the packets of one prediction into events, and knows whether its end has come.

    Args:
        put: takes the events of one packet.
        context: of the call, for notes and signs of life.
        asked: name of the model that was asked for.
        as_json: the answer was asked for as JSON.

    Attributes:
        seen: packets have come this way.
        answered: some output has come.
        ended: the server has said that it is done.
    """

    def __init__(
        self,
        put: Callable[[list[Event]], object],
        context: Context,
        *,
        asked: str | None = None,
        as_json: bool = False,
    ) -> None:
        self.seen = False
        self.answered = False
        self.ended = False
        self._put = put
        self._context = context
        self._asked = asked
        self._text: list[str] | None = [] if as_json else None
        self._thoughts: list[str] = []
        self._splitter = ReasoningSplitter()
        self._calls = 0
        self._failed_calls = 0
        self._reasoning_tokens = 0
        self._cached_tokens: int | None = None
        self._progress = -1.0
        self._last: Packet = {}
        self._readers: dict[str, Callable[[Packet], bool]] = {
            "fragment": self._fragment,
            "promptProcessingProgress": self._prompt_progress,
            "toolCallGenerationStart": self._alive,
            "toolCallGenerationNameReceived": self._alive,
            "toolCallGenerationArgumentFragmentGenerated": self._alive,
            "toolCallGenerationEnd": self._tool_call,
            "toolCallGenerationFailed": self._tool_call_failed,
            "success": self._success,
            "error": lambda _: False,
        }

    def read(self, packet: Packet) -> bool:
        """Take a packet; ``False`` leaves it to the SDK, too."""
        self.seen = True
        reader = self._readers.get(packet.get("type", ""), self._alive)
        return reader(packet)

    # -- text ------------------------------------------------------------------------------------------

    def _fragment(self, packet: Packet) -> bool:
        fragment = packet["fragment"]
        text, kind = fragment.get("content"), fragment.get("reasoningType")
        if fragment.get("isStructural") and not (kind == "none" and _opens_or_closes_reasoning(text)):
            self._context.alive()
        else:
            self.fragment(text, kind, fragment.get("tokensCount"))
        return True

    def fragment(self, text: Any, kind: Any, tokens: Any = None) -> None:
        """Take a piece of text, of the kind that LM Studio's parser says."""
        self.answered = True
        if type(text) is not str:
            raise ProtocolError("the server sent a piece of text that is no text")
        if kind == "none" or kind is None:
            self._answer(text)
        elif kind == "reasoning":
            self._reasoning_tokens += tokens if type(tokens) is int else 0
            self._think(text)
        elif kind not in _TAGS:
            self._context.note(
                f"the server marked a part of the answer as {str(kind)[:40]!r}, which is not known here"
            )
            self._answer(text)

    def _answer(self, text: str) -> None:
        events = self._splitter.feed(text)
        if events:
            self._pass_on(events)

    def _pass_on(self, events: list[Any]) -> None:
        if self._text is not None:
            self._text.extend(event.text for event in events if type(event) is TextDelta)
        self._put(events)

    def _think(self, text: str) -> None:
        if "__LM_STUDIO" in text:
            text = _MARKER.sub("", text)
        if not text:
            return
        if self._text is not None:
            self._thoughts.append(text)
        self._put([ReasoningDelta(text)])

    # -- the rest --------------------------------------------------------------------------------------

    def _alive(self, _: Packet) -> bool:
        """A sign of life that is no event; packets of a newer server among them."""
        self._context.alive()
        return True

    def _prompt_progress(self, packet: Packet) -> bool:
        details = packet.get("details")
        if isinstance(details, Mapping):
            self._cached_tokens = _count(details, "cachedTokenCount")
        self.prompt_progress(packet.get("progress"))
        return True

    def prompt_progress(self, fraction: Any) -> None:
        """Take a report of how much of the prompt is read; reports never go back."""
        known = _number(fraction)
        if known is None or self.answered:
            return
        known = min(1.0, max(0.0, known))
        if known > self._progress:
            self._progress = known
            self._put([Progress("reading prompt", known)])

    def _tool_call(self, packet: Packet) -> bool:
        request = packet.get("toolCallRequest")
        if not isinstance(request, Mapping) or not isinstance(request.get("name"), str):
            raise ProtocolError("the server sent a tool call without a name")
        self.answered = True
        arguments = request.get("arguments")
        written = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
        identity = request.get("id") or packet.get("toolCallId")
        self._flush()
        self._put(
            [
                ToolCallDelta(
                    index=self._calls,
                    id=None if identity is None else str(identity),
                    name=request["name"],
                    arguments=written,
                    server_executed=bool(request.get("pluginIdentifier")),
                )
            ]
        )
        self._calls += 1
        return True

    def _tool_call_failed(self, packet: Packet) -> bool:
        error = packet.get("error")
        said = error.get("title") if isinstance(error, Mapping) else error
        self._context.note(
            f"the model wrote a tool call that cannot be read: {str(said or 'no reason given')[:200]}"
        )
        raw = packet.get("rawContent")
        if isinstance(raw, str) and raw:
            self.answered = True
            self._pass_on([TextDelta(raw)])  # as text rather than not at all
        return True

    # -- the end ---------------------------------------------------------------------------------------

    def _success(self, packet: Packet) -> bool:
        self.success(packet)
        return False  # the SDK must learn that the channel is done

    def success(self, packet: Packet) -> None:
        """Take the server's last word."""
        self.ended = True
        self._last = packet

    def _flush(self) -> None:
        held = self._splitter.close()
        if held:
            self._pass_on(held)
        if self._splitter.note:
            self._context.note(self._splitter.note)
        self._splitter = ReasoningSplitter()

    def finish(self) -> None:
        """Put the events that end the stream.

        Raises:
            ProtocolError: the server has not said that it is done.
            ServerError: it says that it failed.
        """
        if not self.ended:
            raise ProtocolError("the answer ended without its end mark")
        self._flush()
        stats = self._last.get("stats")
        stats = stats if isinstance(stats, Mapping) else {}
        reason = self._reason(stats.get("stopReason"))
        self._check_json(reason)
        self._put(
            [self._usage(stats), Finish(reason, self._model(), _speed(stats), notes=self._context.notes)]
        )

    def _reason(self, said: Any) -> FinishReason:
        reason = said if isinstance(said, str) else ""
        if reason in _FAILURES:
            said, hint = _FAILURES[reason]
            raise ServerError(said, hint=hint, retryable=True)
        if reason == "contextLengthReached":
            self._context.note("the answer ends where the context was full")
        known = _REASONS.get(reason)
        if known is None:
            self._context.note(
                f"the server stopped for a reason that is not known here: {str(said)[:60]!r}"
                if said
                else "the server's figures about this answer could not be read"
            )
        # A server may say "eosFound" after a tool call.
        return "tool_calls" if self._calls and known in {None, "stop"} else known or "stop"

    def _check_json(self, reason: FinishReason) -> None:
        """See that JSON is what was asked for; take it from the thinking if there is no answer at all.

        Thinking models under a schema do so, and leave the text empty (observed, lmstudio-bug-tracker#1698).
        """
        if self._text is None or reason != "stop":
            return
        answer, thoughts = "".join(self._text), "".join(self._thoughts).strip()
        if _is_json(answer):
            return
        if not answer.strip() and thoughts[:1] in {"{", "["} and _is_json(thoughts):
            self._context.note(
                "the server sent the structured answer as reasoning; it is given as text as well"
            )
            self._put([TextDelta(thoughts)])
        else:
            self._context.note("the answer is not the JSON that was asked for")

    def _model(self) -> str | None:
        """Return the copy that answered, by the name under which it was asked for if it goes by that."""
        info = self._last.get("modelInfo")
        info = info if isinstance(info, Mapping) else {}
        names = [
            name for name in (info.get("identifier"), info.get("modelKey")) if isinstance(name, str) and name
        ]
        return self._asked if self._asked in names else next(iter(names), None)

    def _usage(self, stats: Packet) -> Usage:
        return Usage(
            prompt_tokens=_count(stats, "promptTokensCount"),
            completion_tokens=_count(stats, "predictedTokensCount"),
            total_tokens=_count(stats, "totalTokensCount"),
            reasoning_tokens=self._reasoning_tokens or None,
            cached_tokens=self._cached_tokens,
        )


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _opens_or_closes_reasoning(text: Any) -> bool:
    """Whether this is a tag that the splitter has to see: the server has not told reasoning apart."""
    if not isinstance(text, str) or not text.strip():
        return False
    splitter = ReasoningSplitter()
    return not splitter.feed(text) + splitter.close()


def _speed(stats: Packet) -> Stats:
    return Stats(
        time_to_first_token=_number(stats.get("timeToFirstTokenSec")),
        tokens_per_second=_number(stats.get("tokensPerSecond")),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    return None


def _count(source: Packet, name: str) -> int | None:
    number = _number(source.get(name))
    return int(number) if number is not None and number >= 0 else None
