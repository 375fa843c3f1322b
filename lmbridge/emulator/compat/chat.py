"""`POST /v1/chat/completions` and its twin below `/api/v0`: OpenAI's shape with LM Studio's deviations."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.compat.answer import (
    finish_reason,
    finished_summary,
    served_model,
    usage_of,
    v0_extras,
)
from lmbridge.emulator.compat.request import chat_job, wants_usage
from lmbridge.emulator.compat.stream import ChatStream
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import CORE, body_of, json_response
from lmbridge.emulator.leaks import content_of, reasoning_field

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.conversation import ToolCall
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.job import Job, Summary


@known(
    "documented",
    "LM Studio docs, openai-compat/chat-completions",
    "Answers a conversation in OpenAI's form, whole or as a stream; unknown keys are ignored.",
)
@known(
    "observed",
    "lmstudio-bug-tracker#378, #676",
    "Every delta repeats the role; the stream ends with `[DONE]`.",
)
@known(
    "documented",
    "LM Studio changelog 0.3.18",
    "A stream tells its usage only with `stream_options.include_usage`.",
)
@known(
    "observed", "lmstudio-bug-tracker#1602, #1698", "`system_fingerprint` is the model, and `stats` is empty."
)
@known(
    "observed",
    "lmstudio-python#182",
    "A reasoning effort that the model does not take falls back with a warning in the log.",
)
@known("observed", "lmstudio-bug-tracker#2057", "`reasoning_effort` is `none` to switch thinking off.")
@known(
    "observed",
    "lmstudio-bug-tracker#189, #670",
    "`response_format` of type `json_object` and objects as `tool_choice` are refused.",
)
@known(
    "documented",
    "LM Studio docs, rest/endpoints",
    "`/api/v0` adds `stats`, `model_info` and `runtime` to a whole answer.",
)
@known("observed", "lmstudio-bug-tracker#676, lmstudio-js#320", "Chunks of `/api/v0` lack those.")
async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a chat completion, streamed or not."""
    core = request.app[CORE]
    body = await body_of(request)
    job = await chat_job(core, body)
    if body.get("stream"):
        return await ChatStream(request, job, include_usage=wants_usage(body)).run()
    summary = await finished_summary(request, job)
    answer = {
        "id": f"chatcmpl-{core.ids.base36(21)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": served_model(core, job),
        "choices": [_choice(core, job, summary)],
        "usage": usage_of(core, summary),
        "stats": {},
        "system_fingerprint": served_model(core, job),
    }
    if request.path.startswith("/api/v0/"):
        answer |= v0_extras(core, job, summary)
    return json_response(answer)


def _choice(core: Core, job: Job, summary: Summary) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content_of(core.settings, summary)}
    field = reasoning_field(core.settings, job.model)
    if field is not None and summary.reasoning:
        message[field] = summary.reasoning
    message["tool_calls"] = [_tool_call(call) for call in summary.calls]
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(summary)}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"type": "function", "id": call.id, "function": function}
