"""The route itself, streamed or not (docs: anthropic-compat/messages; events: Anthropic's Messages API)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, events
from lmbridge.emulator.compat.answer import finished_summary, served_model
from lmbridge.emulator.compat.messages.blocks import Blocks
from lmbridge.emulator.compat.messages.request import read
from lmbridge.emulator.errors import ContextOverflow, EmulatedError
from lmbridge.emulator.events import Done, EngineEvent
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import (
    CORE,
    EventStream,
    Prediction,
    body_of,
    drop_connection,
    dumps,
    json_response,
    present_record,
)

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.core import Core
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


class _Stream:
    """Puts the events of a prediction into those of the route."""

    def __init__(self, request: web.Request, job: Job) -> None:
        self._request = request
        self._core = request.app[CORE]
        self._job = job
        self._blocks = Blocks(self._core, job)
        self._begun = False
        self._sse = EventStream(request)

    async def run(self) -> web.StreamResponse:
        async with Prediction(self._request, self._job, streaming=True) as generation:
            async for event in generation:
                if isinstance(event, Done):
                    return await self._end(event)
                await self._event(event)
        raise RuntimeError("a prediction ends with Done")

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

    async def _end(self, done: Done) -> web.StreamResponse:
        if done.drop:
            drop_connection(self._request)
            return await self._sse.begin()
        error, summary = done.error, done.summary
        if error is None and summary.stop_reason == "modelUnloaded":
            error = errors.unloaded()
        if error is not None:
            await self._fails(error, summary)
            return await self._sse.finish()
        for kind, fields in self._blocks.close():
            await self._send(kind, **fields)
        usage = _usage(self._core, summary.prompt_tokens, summary.output_tokens)
        await self._send("message_delta", delta=_stop(summary), usage=usage)
        await self._send("message_stop")
        present_record().end("finished")
        return await self._sse.finish()

    async def _fails(self, error: EmulatedError, summary: Summary) -> None:
        """Report an error inside the stream.

        Raises:
            EmulatedError: nothing has been sent, so that the status can still tell.
        """
        overflow = self._core.settings.overflow if isinstance(error, ContextOverflow) else "error"
        if overflow == "silent":
            return
        if not self._sse.begun and overflow != "in_stream":
            raise error
        await self._begin(summary.prompt_tokens)
        await self._sse.send(dumps(error.anthropic()), event="error")
