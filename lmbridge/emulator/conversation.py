"""A conversation in the form that all routes share."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from lmbridge.emulator import tokens

PICTURE_TOKENS = 256
"""Tokens that a picture takes in the context."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture as it was received."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the model."""

    id: str
    name: str
    arguments: dict[str, Any]

    def arguments_json(self) -> str:
        """Return the arguments as the model writes them."""
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the client offers."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: `role` is `system`, `user`, `assistant` or `tool`."""

    role: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


Conversation = tuple[Turn, ...]


def formatted(turns: Conversation) -> str:
    """Return the prompt as the model reads it, as `applyPromptTemplate` does."""
    lines = []
    for turn in turns:
        calls = "".join(
            f"<tool_call>{call.name}({call.arguments_json()})</tool_call>" for call in turn.tool_calls
        )
        lines.append(f"<|{turn.role}|>\n{'<image>' * len(turn.pictures)}{turn.text}{calls}\n")
    return "".join(lines) + "<|assistant|>\n"


def prompt_tokens(turns: Conversation) -> int:
    """Return the length of the prompt in tokens; pictures take `PICTURE_TOKENS` more each."""
    return tokens.count(formatted(turns)) + PICTURE_TOKENS * sum(len(turn.pictures) for turn in turns)


def without_pictures(turns: Conversation) -> Conversation:
    """Return the conversation as a model without eyes takes it in."""
    return tuple(dataclasses.replace(turn, pictures=()) if turn.pictures else turn for turn in turns)


def last_user(turns: Conversation) -> int:
    """Return the index of the last user message, -1 if there is none."""
    return max((index for index, turn in enumerate(turns) if turn.role == "user"), default=-1)


def tool_rounds(turns: Conversation) -> int:
    """Return how often tools have been called since the last user message."""
    return sum(bool(turn.tool_calls) for turn in turns[last_user(turns) + 1 :])
