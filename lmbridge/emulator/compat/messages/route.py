"""The route itself, streamed or not (docs: anthropic-compat/messages; events: Anthropic's Messages API)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import events
from lmbridge.emulator.compat.answer import finished_summary, served_model
from lmbridge.emulator.compat.messages.blocks import Blocks
from lmbridge.emulator.compat.messages.request import read
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import (
    CORE,
    body_of,
    dumps,
    json_response,
)
from lmbridge.emulator.streaming import PredictionStream

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.core import Core
    from lmbridge.emulator.errors import EmulatedError
    from lmbridge.emulator.events import EngineEvent
    from lmbridge.emulator.job import Job, Summary

_STOP = {
    "stopStringFound": "stop_sequence",
    "maxPredictedTokensReached": "max_tokens",
    "contextLengthReached": "max_tokens",
    "toolCalls": "tool_use",
}


@known(
    "documented",
    "LM Studio docs, anthropic-compat/messages",
    "Answers a conversation in Anthropic's form, whole or as a stream, with thinking and tools.",
)
@known("observed", "lmstudio-bug-tracker#1755", "Errors have Anthropic's form.")
@known("assumed", "Anthropic's Messages API", "What was not seen of the events has Anthropic's form.")
async def messages(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    core = request.app[CORE]
    body = await body_of(request)
    job = await read(core, body)
    if body.get("stream"):
        return await _Stream(request, job).run()
    blocks = Blocks(core, job)
    summary = await finished_summary(request, job, lambda event: list(blocks.feed(event)))
    list(blocks.close())
    used = _usage(core, summary.prompt_tokens, summary.output_tokens)
    return json_response(_message(core, job, content=blocks.content, **_stop(summary), usage=used))


def _message(core: Core, job: Job, **fields: Any) -> dict[str, Any]:
    head = {"id": f"msg_{core.ids.base36(24)}", "type": "message", "role": "assistant"}
    return {**head, "model": served_model(core, job), **fields}


def _stop(summary: Summary) -> dict[str, Any]:
    reason = _STOP.get(summary.stop_reason, "end_turn")
    return {"stop_reason": reason, "stop_sequence": summary.stop_string}


def _usage(core: Core, prompt: int, output: int) -> dict[str, int]:
    zero = core.settings.zero_usage
    return {"input_tokens": 0 if zero else prompt, "output_tokens": 0 if zero else output}


class _Stream(PredictionStream):
    def __init__(self, request: web.Request, job: Job) -> None:
        super().__init__(request, job)
        self._blocks = Blocks(self._core, job)
        self._begun = False

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._sse.send(dumps({"type": kind, **fields}), event=kind)

    async def _begin(self, prompt_tokens: int) -> None:
        """Tell of the message; before that a failure has its own status."""
        if not self._begun:
            self._begun = True
            nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
            usage = _usage(self._core, prompt_tokens, 0)
            await self._send("message_start", message=_message(self._core, self._job, **nothing, usage=usage))

    async def _event(self, event: EngineEvent) -> None:
        if isinstance(event, events.Begins):
            await self._begin(event.prompt_tokens)
        for kind, fields in self._blocks.feed(event):
            await self._send(kind, **fields)

    async def _finish(self, summary: Summary) -> None:
        for kind, fields in self._blocks.close():
            await self._send(kind, **fields)
        usage = _usage(self._core, summary.prompt_tokens, summary.output_tokens)
        await self._send("message_delta", delta=_stop(summary), usage=usage)
        await self._send("message_stop")

    async def _tell(self, error: EmulatedError, summary: Summary, /) -> None:
        await self._begin(summary.prompt_tokens)
        await self._sse.send(dumps(error.anthropic()), event="error")
