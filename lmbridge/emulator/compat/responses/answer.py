"""The response object: what it repeats of the request, its end, and how it is stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.compat.answer import served_model

if TYPE_CHECKING:
    from lmbridge.emulator.compat.responses.request import Asked
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.errors import EmulatedError
    from lmbridge.emulator.job import Summary

_REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
}
"""What a response repeats of its request, and what it says where the request says nothing."""


def begun(core: Core, asked: Asked) -> dict[str, Any]:
    """Return the response object before anything has been generated."""
    sent = {key: asked.body[key] for key in _REPEATED if asked.body.get(key) is not None}
    return {
        "id": core.chats.new_id(),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": served_model(core, asked.job),
        "output": [],
        "error": None,
        "incomplete_details": None,
        **_REPEATED,
        **sent,
        "store": asked.store,
        "usage": None,
    }


def finish(core: Core, asked: Asked, response: dict[str, Any], items: list[Any], summary: Summary) -> None:
    """Complete the response object in place and store the conversation, if that was not declined."""
    full = summary.stop_reason in ("maxPredictedTokensReached", "contextLengthReached")
    response["status"] = "incomplete" if full else "completed"
    response["incomplete_details"] = {"reason": "max_output_tokens"} if full else None
    response["model"] = served_model(core, asked.job)
    response["output"] = items
    for item in items:
        if item.get("status") == "in_progress":
            item["status"] = "incomplete"
    response["usage"] = _usage(core, summary)
    if asked.store:
        core.chats.store(response["id"], (*asked.history, *summary.answer()))


def fail(response: dict[str, Any], items: list[Any], error: EmulatedError) -> None:
    """Turn the response object into that of a failure."""
    response["status"] = "failed"
    response["error"] = {"code": error.code or "server_error", "message": error.message}
    response["output"] = items


def _usage(core: Core, summary: Summary) -> dict[str, Any]:
    zero = core.settings.zero_usage
    prompt, output = (0, 0) if zero else (summary.prompt_tokens, summary.output_tokens)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0 if zero else summary.reasoning_tokens},
        "total_tokens": prompt + output,
    }
