"""Reading the requests of the compatible routes: lenient, but for what a real server refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, pictures
from lmbridge.emulator.conversation import Picture, Tool, ToolCall, Turn
from lmbridge.emulator.http_support import number_of, present_record, text_of
from lmbridge.emulator.job import Job

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.core import Core

OPTIONS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "reasoning_effort",
    "draft_model",
)
"""What shows in the answer when it is sent."""

KNOWN = frozenset(
    {
        *OPTIONS,
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "response_format",
        "logit_bias",
        "ttl",
    }
)
"""All keys that mean something to a chat completion."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


async def chat_job(core: Core, body: dict[str, Any]) -> Job:
    """Make a job of a chat completion request.

    Raises:
        EmulatedError: the request is refused.
    """
    model = core.instances.resolve(text_of(body, "model") or None, "llm")
    if core.settings.compat_strict_keys and (extra := [key for key in body if key not in KNOWN]):
        raise errors.unknown_keys(extra)
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise errors.invalid("'messages' field is required")
    turns = tuple(_turn(core, message) for message in messages)
    seen = [picture for turn in turns for picture in turn.pictures]
    core.check_vision(model, len(seen))
    job = common_job(core, body, model)
    job.turns = turns
    job.sights = await pictures.look(seen, core.settings)
    job.schema = _schema(body.get("response_format"))
    job.tools = _tools(body.get("tools"))
    job.tool_choice = _tool_choice(body.get("tool_choice"))
    job.effort, warning = effective_effort(body.get("reasoning_effort"), model)
    if warning:
        present_record().warnings.append(warning)
    return job


def common_job(core: Core, body: dict[str, Any], model: CatalogModel) -> Job:
    """Make a job of what chat and text completions have in common."""
    limit = number_of(body, "max_tokens", integer=True)
    if limit is None:
        limit = number_of(body, "max_completion_tokens", integer=True)
    options = {key: body[key] for key in OPTIONS if body.get(key) is not None}
    if "max_completion_tokens" in options:
        options["max_tokens"] = options.pop("max_completion_tokens")
    ttl = number_of(body, "ttl")
    return Job(
        model=model,
        asked_model=text_of(body, "model") or None,
        turns=(),
        options=options,
        max_tokens=None if limit is None or limit < 0 else limit,
        stop=_stop(body.get("stop")),
        seed=number_of(body, "seed", integer=True),
        ttl_s=float(ttl) if ttl is not None else core.settings.jit_ttl_s,
    )


def effective_effort(asked: Any, model: CatalogModel) -> tuple[str, str | None]:
    """Return the reasoning setting that applies, and the warning a real server writes to its log.

    This route falls back where `/api/v1/chat` refuses (observed, lmstudio-python#182).
    """
    if not model.reasoning:
        return "off", None
    if asked is None:
        return model.reasoning_default, None
    wanted = "off" if asked == "none" else str(asked)
    if wanted in model.reasoning:
        return wanted, None
    fallback = "on" if wanted != "off" and "on" in model.reasoning else model.reasoning_default
    listed = ", ".join(f"'{option}'" for option in model.reasoning)
    return fallback, (
        f"Reasoning setting '{asked}' is not supported by model '{model.key}'. Supported settings: {listed}. "
        f"Falling back to reasoning setting '{fallback}'."
    )


def wants_usage(body: dict[str, Any]) -> bool:
    """Tell whether a stream is to end with its usage (documented, changelog 0.3.18)."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise errors.invalid("'stop' must be a string or an array of strings")
    return tuple(stops)


def _turn(core: Core, message: Any) -> Turn:
    asked = message.get("role") if isinstance(message, dict) else None
    role = _ROLES.get(str(asked))
    if role is None:
        raise errors.unknown_role(asked)
    if asked == "developer":
        present_record().warnings.append("Role 'developer' is not supported. It was replaced by 'system'.")
    text, images = _content(core, message.get("content"))
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise errors.invalid("Invalid 'tool_calls' in a message")
    tool_call_id = message.get("tool_call_id")
    if role == "tool" and not isinstance(tool_call_id, str):
        raise errors.invalid("'tool_call_id' is required for messages with role 'tool'")
    return Turn(role, text, images, tuple(_call(entry) for entry in calls), tool_call_id)


def _content(core: Core, content: Any) -> tuple[str, tuple[Picture, ...]]:
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list):
        raise errors.invalid("Invalid 'content': expected a string or an array")
    texts: list[str] = []
    images: list[Picture] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            source = part.get("image_url")
            url = source.get("url") if isinstance(source, dict) else source
            images.append(pictures.from_data_url(url, core.settings))
        else:
            raise errors.invalid(
                "Invalid 'content': content objects must have a 'type' field that is 'text' or 'image_url'."
            )
    return "\n".join(texts), tuple(images)


def _call(entry: Any) -> ToolCall:
    function = entry.get("function") if isinstance(entry, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise errors.invalid("Invalid 'tool_calls' in a message")
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (ValueError, RecursionError, TypeError):
        raise errors.invalid("Invalid 'tool_calls' in a message: the arguments are no JSON") from None
    return ToolCall(
        str(entry.get("id", "")), function["name"], arguments if isinstance(arguments, dict) else {}
    )


def _schema(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    holder = value.get("json_schema") if isinstance(value, dict) else None
    if kind != "json_schema":
        raise errors.invalid("'response_format.type' must be 'json_schema' or 'text'")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    if not isinstance(schema, dict):
        raise errors.invalid("'response_format.json_schema.schema' must be an object")
    return schema


def _tools(value: Any) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise errors.invalid("'tools' must be an array")
    return tuple(tool_of(entry) for entry in value)


def tool_of(entry: Any) -> Tool:
    """Read one tool definition in OpenAI's shape, which the SDK shares.

    Raises:
        EmulatedError: it is malformed.
    """
    function = entry.get("function") if isinstance(entry, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise errors.invalid("Invalid tool: 'function.name' is required")
    parameters = function.get("parameters")
    description = str(function.get("description") or "")
    return Tool(function["name"], description, parameters if isinstance(parameters, dict) else {})


def _tool_choice(value: Any) -> str:
    if value is None:
        return "auto"
    if isinstance(value, dict):
        message = "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"
        raise errors.invalid(message)
    if value not in ("none", "auto", "required"):
        raise errors.invalid(f"Invalid tool_choice: '{value}'. Supported string values: none, auto, required")
    return str(value)
