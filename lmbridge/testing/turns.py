"""The answers that the kit asks a server for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmbridge.chat import Tool, ToolCallPart

if TYPE_CHECKING:
    from lmbridge.events import FinishReason

__all__ = ["TALK", "THOUGHT", "TOOLS", "USE", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model answers. The author's script says it in the server's own words.

    Attributes:
        text: the answer, in the pieces in which it arrives.
        reasoning: the thinking before it, in pieces.
        tool_calls: calls that the model asks for, in parallel.
        prompt_tokens, completion_tokens: usage that the server reports.
        finish: why the model stops.
    """

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[ToolCallPart, ...] = ()
    prompt_tokens: int = 11
    completion_tokens: int = 7
    finish: FinishReason = "stop"


#: The pieces have marks in ASCII, by which places on the wire are found, and letters of two and four bytes.
TALK = Turn(text=("alpha ", "bravo ", "çelest 🎉 ", "delta"))
THOUGHT = Turn(text=TALK.text, reasoning=("hmm ", "that is ", "éasy"))
USE = Turn(
    tool_calls=(
        ToolCallPart("call-1", "weather", '{"city": "Køge"}'),
        ToolCallPart("call-2", "weather", '{"city": "Ulm"}'),
    ),
    finish="tool_calls",
)
TOOLS = (
    Tool(
        "weather",
        "Tells the weather.",
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    ),
)
