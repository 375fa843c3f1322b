"""What comes back: the events of a stream and the result that they fold into."""

from typing import Literal, TypeAlias

from msgspec import Struct

from lmbridge.chat import Message, Options, TextPart, ToolCallPart

__all__ = [
    "Event",
    "Finish",
    "FinishReason",
    "Phase",
    "Progress",
    "ReasoningDelta",
    "Result",
    "Stats",
    "TextDelta",
    "ToolCallDelta",
    "ToolResult",
    "Usage",
]

Phase: TypeAlias = Literal["queued", "loading model", "reading prompt"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]

# Events hold only strings and numbers, so they cannot form cycles: `gc=False` keeps the collector out of
# the stream path.


class Progress(Struct, frozen=True, gc=False, tag="progress", tag_field="type"):
    """The server has not begun to answer.

    Attributes:
        phase: what it is doing, or ``"queued"`` while the call waits for its turn on our side.
        fraction: 0 to 1, or ``None`` if unknown.
    """

    phase: Phase
    fraction: float | None = None


class ReasoningDelta(Struct, frozen=True, gc=False, tag="reasoning", tag_field="type"):
    """More of the model's thinking; never part of the answer."""

    text: str


class TextDelta(Struct, frozen=True, gc=False, tag="text", tag_field="type"):
    """More of the answer."""

    text: str


class ToolCallDelta(Struct, frozen=True, gc=False, tag="tool_call", tag_field="type"):
    """A piece of a tool call; pieces with the same ``index`` belong together.

    Attributes:
        index: number of the call within the answer, from 0.
        id: on the first piece.
        name: on the first piece.
        arguments: more of the arguments' JSON text.
        server_executed: the server runs the tool itself; it must not be run again.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    server_executed: bool = False


class ToolResult(Struct, frozen=True, gc=False, tag="tool_result", tag_field="type"):
    """What a tool that the server ran itself answered.

    Attributes:
        index: ``index`` of the call's deltas.
        id: id of the call.
        name: name of the tool.
        content: the tool's output, or the reason of the failure.
        is_error: the call failed.
        server_executed: always ``True`` on events that the core passes on.
    """

    index: int
    id: str
    name: str
    content: str
    is_error: bool = False
    server_executed: bool = True


class Usage(Struct, frozen=True, gc=False, tag="usage", tag_field="type"):
    """Tokens as the server counted them; ``None`` where it does not tell. At most once in a stream."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class Stats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How fast it went. Figures that ``measured`` names are by our clock, the others are the server's own.

    Attributes:
        time_to_first_token: seconds until the first piece of reasoning, answer or tool call.
        tokens_per_second: generated tokens by second of generation.
        load_seconds: spent on loading the model for this request.
        total_seconds: the whole call, our queue included.
        measured: names of the figures that we measured.
    """

    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    load_seconds: float | None = None
    total_seconds: float | None = None
    measured: tuple[str, ...] = ()


class Finish(Struct, frozen=True, tag="finish", tag_field="type", omit_defaults=True):
    """The end of a stream that ended well; always the last event.

    Attributes:
        reason: why the model stopped.
        model: the model that really answered, as the server names it.
        stats: how fast it went.
        response_id: id to continue a stored conversation with.
        notes: every adaptation and oddity that a careful reader should know of, in plain sentences.
        options: the options as they were sent: preset filled in, what was left out taken out.
    """

    reason: FinishReason
    model: str | None = None
    stats: Stats = Stats()
    response_id: str | None = None
    notes: tuple[str, ...] = ()
    options: Options | None = None


Event: TypeAlias = Progress | ReasoningDelta | TextDelta | ToolCallDelta | ToolResult | Usage | Finish


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole answer.

    Attributes:
        text: the answer, without reasoning.
        reasoning: the thinking.
        tool_calls: calls that the model asks for; those marked ``server_executed`` are done already.
        tool_results: what the tools answered that the server ran itself.
        finish_reason: why the model stopped.
        usage: tokens.
        stats: how fast it went.
        model: the model that really answered.
        response_id: id to continue a stored conversation with.
        notes: adaptations and oddities.
        options: the options as they were sent.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    stats: Stats = Stats()
    model: str | None = None
    response_id: str | None = None
    notes: tuple[str, ...] = ()
    options: Options | None = None

    @property
    def message(self) -> Message:
        """The answer as a turn to append to the conversation: text and own tool calls, never reasoning."""
        texts = (TextPart(self.text),) if self.text else ()
        calls = tuple(call for call in self.tool_calls if not call.server_executed)
        return Message("assistant", (*texts, *calls))
