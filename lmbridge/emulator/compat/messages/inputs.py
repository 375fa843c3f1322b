"""The conversation of a `/v1/messages` request: messages of content blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import pictures
from lmbridge.emulator.conversation import Conversation, Picture, ToolCall, Turn
from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Settings

_UNSEEN = ("thinking", "redacted_thinking")
"""Blocks of an earlier answer that are no part of the prompt."""


def malformed(place: str, problem: str = "Invalid input") -> EmulatedError:
    """A part of the request has the wrong shape (the text is assumed)."""
    return EmulatedError(f"{place}: {problem}", code="invalid_type", param=place)


def turns_of(body: dict[str, Any], settings: Settings) -> Conversation:
    """Read system prompt and messages.

    Raises:
        EmulatedError: they are malformed, or a picture is refused.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise malformed("messages", "Required" if messages is None else "Invalid input")
    turns = [Turn("system", text)] if (text := system_of(body.get("system"))) else []
    for index, message in enumerate(messages):
        turns += _message(message, f"messages.{index}", settings)
    return tuple(turns)


def system_of(value: Any) -> str:
    """Return the system prompt: a string, or blocks of text.

    Raises:
        EmulatedError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise malformed("system")
    return "\n".join(_text(block, "system") for block in value)


def _message(message: Any, place: str, settings: Settings) -> list[Turn]:
    role = message.get("role") if isinstance(message, dict) else None
    if role == "system" and settings.messages_system_role:
        return [Turn("system", system_of(message.get("content")))]
    if role not in ("user", "assistant"):
        # Observed with a system message, bug-tracker#2204.
        problem = "Invalid discriminator value. Expected 'user' | 'assistant'"
        raise EmulatedError(problem, code="invalid_union", param=f"{place}.role")
    content = message.get("content")
    if isinstance(content, str):
        return [Turn(role, content)]
    if not isinstance(content, list):
        raise malformed(f"{place}.content")
    return _user(content, place, settings) if role == "user" else [_assistant(content, place)]


def _user(content: list[Any], place: str, settings: Settings) -> list[Turn]:
    """Return the results of tools, and then what the user says."""
    results: list[Turn] = []
    rest: list[Any] = []
    for index, block in enumerate(content):
        if _kind(block) == "tool_result":
            results.append(_result(block, f"{place}.content.{index}", settings))
        else:
            rest.append(block)
    if not rest:
        return results
    text, seen = _parts(rest, place, settings)
    return [*results, Turn("user", text, seen)]


def _result(block: dict[str, Any], place: str, settings: Settings) -> Turn:
    call_id = block.get("tool_use_id")
    if not isinstance(call_id, str):
        raise malformed(f"{place}.tool_use_id", "Required")
    content = block.get("content") or ""
    if isinstance(content, str):
        return Turn("tool", content, tool_call_id=call_id)
    if not isinstance(content, list):
        raise malformed(f"{place}.content")
    text, seen = _parts(content, place, settings)
    return Turn("tool", text, seen, tool_call_id=call_id)


def _parts(blocks: list[Any], place: str, settings: Settings) -> tuple[str, tuple[Picture, ...]]:
    texts = [_text(block, place) for block in blocks if _kind(block) != "image"]
    return "\n".join(texts), tuple(_image(block, settings) for block in blocks if _kind(block) == "image")


def _assistant(content: list[Any], place: str) -> Turn:
    texts, calls = [], []
    for index, block in enumerate(content):
        if _kind(block) == "tool_use":
            calls.append(_call(block, f"{place}.content.{index}"))
        elif _kind(block) not in _UNSEEN:
            texts.append(_text(block, place))
    return Turn("assistant", "\n".join(texts), tool_calls=tuple(calls))


def _call(block: dict[str, Any], place: str) -> ToolCall:
    name, call_id, arguments = block.get("name"), block.get("id"), block.get("input")
    if not isinstance(name, str) or not isinstance(call_id, str) or not isinstance(arguments, dict):
        raise malformed(place)
    return ToolCall(call_id, name, arguments)


def _kind(block: Any) -> str:
    return str(block.get("type")) if isinstance(block, dict) else ""


def _text(block: Any, place: str) -> str:
    text = block.get("text") if _kind(block) == "text" else None
    if not isinstance(text, str):
        raise malformed(f"{place}.content")
    return text


def _image(block: dict[str, Any], settings: Settings) -> Picture:
    """Return a picture; an address instead of base64 is refused as on the other routes (assumed)."""
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    url = f"data:{source.get('media_type')};base64,{source.get('data')}"
    return pictures.from_data_url(url if source.get("type") == "base64" else None, settings)
