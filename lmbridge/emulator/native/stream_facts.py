"""How the events of `/api/v1/chat` are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmbridge.emulator.evidence import Fact

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Evidence

_DOCS = "LM Studio docs, rest/streaming-events"


def _event(name: str, says: str, evidence: Evidence = "documented", source: str = _DOCS) -> Fact:
    return Fact(says, evidence, source, name)


EVENTS: tuple[Fact, ...] = (
    _event("chat.start", "Comes first and names the instance."),
    _event("model_load.start", "A load has begun; only if the request causes one."),
    _event("model_load.progress", "Part of the model is loaded, 0 to 1."),
    _event("model_load.end", "The model is loaded; tells the seconds."),
    _event("prompt_processing.start", "The prompt is being read."),
    _event("prompt_processing.progress", "Part of the prompt is read, 0 to 1."),
    _event("prompt_processing.end", "The prompt is read."),
    _event("reasoning.start", "A piece of reasoning begins."),
    _event("reasoning.delta", "A token of it."),
    _event("reasoning.end", "The piece is complete."),
    _event("tool_call.start", "The model calls a tool of an MCP server."),
    _event("tool_call.arguments", "The arguments, as an object."),
    _event("tool_call.success", "What the tool answered, as a text."),
    _event("tool_call.failure", "The call was invalid; tells why."),
    _event(
        "tool_call.name",
        "Follows `tool_call.start`, though no documentation has it; its fields are assumed.",
        "observed",
        "lmstudio-bug-tracker#1880",
    ),
    _event("message.start", "A piece of the answer begins."),
    _event("message.delta", "A token of it."),
    _event("message.end", "The piece is complete."),
    _event("error", "What went wrong; `chat.end` still follows."),
    _event("chat.end", "The whole answer as without streaming. There is no `[DONE]`."),
    _event("quantum.start", "Off by default: an event that no client knows.", "harness", ""),
)
"""Each kind of event that a stream may have."""
