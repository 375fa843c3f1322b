"""Chunks whose types differ from the documented ones, read field by field."""

from typing import Any

import msgspec

from lmbridge_openai.toolcalls import arguments_text
from lmbridge_openai.wire import Choice, Chunk, Delta, Function, ToolCall

__all__ = ["chunk_of", "parse"]


def parse(data: bytes) -> Any:
    """Decode JSON; bytes that are no UTF-8 (a character cut in two by the server) become U+FFFD.

    Raises:
        msgspec.DecodeError: it is no JSON.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(data.decode("utf-8", "replace"))
    except RecursionError as exc:
        raise msgspec.DecodeError("nested too deeply") from exc


def chunk_of(value: Any) -> Chunk:
    """Return what can be used of a decoded chunk. Anything else in it is ignored."""
    if not isinstance(value, dict):
        return Chunk()
    choices = value.get("choices")
    return Chunk(
        choices=[_choice(item) for item in choices if isinstance(item, dict)]
        if isinstance(choices, list)
        else None,
        model=_text(value.get("model")),
        usage=_dict(value.get("usage")),
        error=value.get("error"),
        timings=_dict(value.get("timings")),
    )


def _choice(value: dict[str, Any]) -> Choice:
    index = value.get("index")
    return Choice(
        index=index if isinstance(index, int) else 0,
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        text=_text(value.get("text")),
        finish_reason=_text(value.get("finish_reason")),
        error=value.get("error"),
    )


def _delta(value: Any) -> Delta | None:
    if not isinstance(value, dict):
        return None
    content, thoughts = _parts(value.get("content"))
    calls, details = value.get("tool_calls"), value.get("reasoning_details")
    return Delta(
        content=content,
        reasoning_content=_text(value.get("reasoning_content")) or thoughts,
        reasoning=_text(value.get("reasoning")),
        tool_calls=[_call(item) for item in calls if isinstance(item, dict)]
        if isinstance(calls, list)
        else None,
        function_call=_function(value.get("function_call")),
        refusal=_text(value.get("refusal")),
        reasoning_details=[item for item in details if isinstance(item, dict)]
        if isinstance(details, list)
        else None,
    )


def _parts(content: Any) -> tuple[str | None, str | None]:
    """Return text and reasoning of content that may be a list of parts (Mistral: ``text``, ``thinking``)."""
    if not isinstance(content, list):
        return _text(content), None
    text: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict):
            thoughts.append("".join(part_text for part_text in _parts(part.get("thinking")) if part_text))
            text.append(_text(part.get("text")) or "")
    return "".join(text) or None, "".join(thoughts) or None


def _call(value: dict[str, Any]) -> ToolCall:
    index, call_id = value.get("index"), value.get("id")
    return ToolCall(
        index=index if isinstance(index, int) else None,
        id=None if call_id is None else str(call_id),
        function=_function(value.get("function")),
    )


def _function(value: Any) -> Function | None:
    if not isinstance(value, dict):
        return None
    return Function(name=_text(value.get("name")), arguments=arguments_text(value.get("arguments")))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
