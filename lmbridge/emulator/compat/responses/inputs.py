"""The `input` of `/v1/responses`: a text, or items of a conversation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import pictures
from lmbridge.emulator.conversation import Conversation, Picture, ToolCall, Turn
from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Settings

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXTS = ("input_text", "output_text")
_UNSEEN = ("reasoning", "mcp_list_tools")
"""Items of an earlier answer that are no part of the prompt."""


def malformed() -> EmulatedError:
    """Any fault of the input has this one body (observed, bug-tracker#1106, #2200)."""
    return EmulatedError("Invalid type for 'input'.", code="invalid_union", param="input")


def turns_of(value: Any, settings: Settings) -> Conversation:
    """Read the whole input.

    Raises:
        EmulatedError: it is malformed, or a picture in it is refused.
    """
    if isinstance(value, str):
        return (Turn("user", value),)
    if not isinstance(value, list):
        raise malformed()
    turns: list[Turn] = []
    for item in value:
        _add(turns, item, settings)
    return tuple(turns)


def _add(turns: list[Turn], item: Any, settings: Settings) -> None:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "message":
        turns.append(_message(item, settings))
    elif kind == "function_call":
        _add_call(turns, item.get("call_id"), item)
    elif kind == "function_call_output":
        turns.append(Turn("tool", _output(item.get("output")), tool_call_id=_text(item.get("call_id"))))
    elif kind == "mcp_call":
        _add_call(turns, item.get("id"), item)
        turns.append(Turn("tool", str(item.get("output") or ""), tool_call_id=_text(item.get("id"))))
    elif kind not in _UNSEEN:
        raise malformed()


def _message(item: dict[str, Any], settings: Settings) -> Turn:
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise malformed()
    content = item.get("content")
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        raise malformed()
    texts = [_text(part.get("text")) for part in content if _kind(part) in _TEXTS]
    images = [_image(part, settings) for part in content if _kind(part) == "input_image"]
    if len(texts) + len(images) != len(content):
        raise malformed()
    return Turn(role, "\n".join(texts), tuple(images))


def _kind(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise malformed()
    return value


def _image(part: dict[str, Any], settings: Settings) -> Picture:
    if not settings.responses_images:
        raise malformed()
    return pictures.from_data_url(part.get("image_url"), settings)


def _output(value: Any) -> str:
    """Return a tool's result; a picture in it is refused (observed, bug-tracker#2200)."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(_kind(part) in _TEXTS for part in value):
        raise malformed()
    return "\n".join(_text(part.get("text")) for part in value)


def _add_call(turns: list[Turn], call_id: Any, item: dict[str, Any]) -> None:
    """Add a call to the assistant's turn that it belongs to."""
    try:
        arguments = json.loads(item.get("arguments") or "{}")
    except (ValueError, RecursionError, TypeError):
        raise malformed() from None
    made = ToolCall(_text(call_id), _text(item.get("name")), arguments if isinstance(arguments, dict) else {})
    if turns and turns[-1].role == "assistant":
        last = turns.pop()
        turns.append(Turn("assistant", last.text, tool_calls=(*last.tool_calls, made)))
    else:
        turns.append(Turn("assistant", tool_calls=(made,)))
