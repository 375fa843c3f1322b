"""The streamed form of a chat completion (observed, bug-tracker#378, #676)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import events
from lmbridge.emulator.compat.answer import finish_reason, usage_of
from lmbridge.emulator.http_support import (
    dumps,
)
from lmbridge.emulator.leaks import place
from lmbridge.emulator.streaming import PredictionStream

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.errors import EmulatedError
    from lmbridge.emulator.events import EngineEvent
    from lmbridge.emulator.job import Job, Summary


class ChatStream(PredictionStream):
    """Puts the events of a prediction into chunks.

    Args:
        request: whose answer it is.
        job: what to predict.
        include_usage: whether a last chunk tells the usage.
        legacy: chunks of `/v1/completions`, whose choices have `text` instead of `delta`.
    """

    def __init__(self, request: web.Request, job: Job, *, include_usage: bool, legacy: bool = False) -> None:
        super().__init__(request, job)
        self._include_usage = include_usage
        self._legacy = legacy
        ids = self._core.ids
        self._head: dict[str, Any] = {
            "id": f"{'cmpl' if legacy else 'chatcmpl'}-{ids.base36(21)}",
            "object": "text_completion" if legacy else "chat.completion.chunk",
            "created": int(time.time()),
            "model": job.model.key,
            "system_fingerprint": job.model.key,
        }

    async def _event(self, event: EngineEvent) -> None:
        if isinstance(event, events.Begins):
            self._head["model"] = self._head["system_fingerprint"] = event.instance.id
        elif isinstance(event, events.Token):
            placed = place(self._core.settings, self._job.model, event)
            if placed is not None:
                await self._delta({placed[0]: placed[1]})
        elif isinstance(event, events.CallBegins):
            function = {"name": event.call.name, "arguments": ""}
            call = {"index": event.index, "id": event.call.id, "type": "function", "function": function}
            await self._delta({"tool_calls": [call]})
        elif isinstance(event, events.CallArguments):
            await self._delta({"tool_calls": [{"index": event.index, "function": {"arguments": event.text}}]})

    async def _delta(self, delta: dict[str, Any]) -> None:
        """Send a delta; each repeats the role, as the real server's do."""
        if self._legacy:
            choice: dict[str, Any] = {"index": 0, "text": delta.get("content", ""), "logprobs": None}
        else:
            choice = {"index": 0, "delta": {"role": "assistant", **delta}, "logprobs": None}
        await self._chunk([{**choice, "finish_reason": None}])

    async def _chunk(self, choices: list[dict[str, Any]], **extra: Any) -> None:
        await self._sse.send(dumps({**self._head, "choices": choices, **extra}))

    async def _finish(self, summary: Summary) -> None:
        final: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason(summary)}
        usage = {"usage": usage_of(self._core, summary)} if self._include_usage else {}
        own = self._core.settings.usage_chunk == "own"
        await self._chunk(
            [{**final, "text": ""} if self._legacy else {**final, "delta": {}}], **({} if own else usage)
        )
        if usage and own:
            await self._chunk([], **usage)
        await self._sse.send(b"[DONE]")

    async def _tell(self, error: EmulatedError, _summary: Summary, /) -> None:
        settings = self._core.settings
        form = "string" if settings.string_errors else settings.stream_error
        forms: dict[str, Any] = {
            "string": error.message,
            "message": {"message": error.message},
            "full": error.compat_object(),
        }
        event = "error" if settings.error_event_name else None
        await self._sse.send(dumps({"error": forms[form]}), event=event)
