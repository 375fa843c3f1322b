"""What a route asks of the engine, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.conversation import Conversation, Tool, ToolCall, Turn

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.instances import Instance
    from lmbridge.emulator.mcp import Integration
    from lmbridge.emulator.pictures import Sight


@dataclass(slots=True, kw_only=True)
class Job:
    """One prediction to make.

    Attributes:
        model: the resolved model.
        asked_model: as the client named it; None: whatever is loaded.
        instance: predict on exactly this one (a handle of the SDK).
        turns: the conversation.
        sights: what was seen in its pictures.
        options: the options by their canonical names, as sent.
        max_tokens: None for no limit.
        stop: strings that end the answer.
        seed: changes the wording.
        schema: JSON schema of the answer.
        grammar: GBNF grammar of the answer.
        tools: the client's tools.
        tool_choice: `auto`, `none` or `required`.
        integrations: MCP servers whose tools the server runs itself.
        effort: effective reasoning setting.
        ttl_s: TTL of a load that this request causes; None for the setting's default.
        context_length: of a load that this request causes.
        stop_at_context: end at the context's limit; else old messages give way.
        completion: continue a text instead of answering a message.
    """

    model: CatalogModel
    asked_model: str | None
    instance: Instance | None = None
    turns: Conversation
    sights: list[Sight] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: dict[str, Any] | None = None
    grammar: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    integrations: tuple[Integration, ...] = ()
    effort: str = "off"
    ttl_s: float | None = None
    context_length: int | None = None
    stop_at_context: bool = False
    completion: bool = False


@dataclass(slots=True, kw_only=True)
class Summary:
    """What a prediction came to.

    Attributes:
        stop_reason: as the SDK names it: `eosFound`, `stopStringFound`, `maxPredictedTokensReached`,
            `contextLengthReached`, `toolCalls`, `userStopped`, `modelUnloaded`.
        stop_string: the string that ended it.
        prompt_tokens: of the (last) prompt.
        output_tokens: all that was generated, reasoning included.
        reasoning_tokens: the part of it that is reasoning.
        load_seconds: if this request loaded the model.
        first_token_seconds: from the begin of the work to the first token.
        seconds: of generating.
        output: the items of `/api/v1/chat`'s `output`.
        reasoning: the whole reasoning.
        text: the whole answer.
        calls: the calls of the client's own tools.
        turns: what the server's own tools added to the conversation: calls and results.
        instance: which one predicted, None if it never came to that.
    """

    stop_reason: str = "eosFound"
    stop_string: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    load_seconds: float | None = None
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    output: list[dict[str, Any]] = field(default_factory=list)
    reasoning: str = ""
    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    turns: Conversation = ()
    instance: Instance | None = None

    def answer(self) -> Conversation:
        """Return what the prediction adds to its conversation."""
        return (*self.turns, Turn("assistant", self.text, tool_calls=tuple(self.calls)))

    def draft_counts(self) -> dict[str, int]:
        """Return the counts of speculative decoding: two of three tokens were guessed right."""
        accepted = self.output_tokens * 2 // 3
        return {
            "total_draft_tokens_count": self.output_tokens,
            "accepted_draft_tokens_count": accepted,
            "rejected_draft_tokens_count": self.output_tokens - accepted,
            "ignored_draft_tokens_count": 0,
        }

    @property
    def tokens_per_second(self) -> float:
        """Speed of generating."""
        return round(self.output_tokens / max(self.seconds, 1e-4), 2)
