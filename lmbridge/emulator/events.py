"""What the engine tells a route while it works on its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lmbridge.emulator.conversation import ToolCall
    from lmbridge.emulator.errors import EmulatedError
    from lmbridge.emulator.instance import Instance
    from lmbridge.emulator.job import Summary


@dataclass(frozen=True, slots=True)
class LoadBegins:
    """A load has begun for this request; others were evicted for it."""

    instance_id: str
    evicted: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Part of the model is loaded, 0..1."""

    instance_id: str
    fraction: float


@dataclass(frozen=True, slots=True)
class LoadEnds:
    """The model is loaded."""

    instance_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Begins:
    """The instance is known and the prompt fits; the first event unless a load comes before."""

    instance: Instance
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Part of the prompt is read: 0.0 begins a prompt, 1.0 ends it."""

    fraction: float
    tokens: int


Kind = Literal["reasoning_start", "reasoning", "reasoning_end", "message", "structure"]


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token; `first` in its piece of reasoning or answer."""

    kind: Kind
    text: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class PieceEnds:
    """A piece of reasoning or answer is complete."""

    kind: Literal["reasoning", "message"]


@dataclass(frozen=True, slots=True)
class CallBegins:
    """The model begins to call the client's tool number `index`."""

    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A token of the arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnds:
    """The call is complete, or has failed for this reason."""

    index: int
    call: ToolCall
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that the server runs itself: `start`, `arguments`, then `success` or `failure`.

    A call of a tool that no server has is a `failure` at once.
    """

    stage: Literal["start", "arguments", "success", "failure"]
    item: dict[str, Any]
    server: str = ""
    """The label of the MCP server."""


@dataclass(frozen=True, slots=True)
class Done:
    """The end: the summary, and the error if it is one."""

    summary: Summary
    error: EmulatedError | None = None
    drop: bool = False
    """Reset the connection instead of answering."""


EngineEvent = (
    LoadBegins
    | LoadProgress
    | LoadEnds
    | Begins
    | PromptProgress
    | Token
    | PieceEnds
    | CallBegins
    | CallArguments
    | CallEnds
    | ServerTool
    | Done
)
