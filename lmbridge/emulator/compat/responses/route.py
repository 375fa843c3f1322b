"""The route itself, streamed or not (docs: openai-compat/responses; events: OpenAI's Responses API)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import events
from lmbridge.emulator.compat.answer import finished_summary
from lmbridge.emulator.compat.responses import answer
from lmbridge.emulator.compat.responses.output import Output
from lmbridge.emulator.compat.responses.request import Asked, read
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

    from lmbridge.emulator.errors import EmulatedError
    from lmbridge.emulator.events import EngineEvent
    from lmbridge.emulator.job import Summary


@known(
    "documented",
    "LM Studio docs, openai-compat/responses",
    "Creates a response, whole or as a stream; it can be continued by its id.",
)
@known(
    "observed", "lmstudio-bug-tracker#1188", "Reasoning is an item with `reasoning_text`, before the message."
)
@known("assumed", "OpenAI's Responses API", "What was not seen of the events has OpenAI's form.")
async def responses(request: web.Request) -> web.StreamResponse:
    """Create a response."""
    core = request.app[CORE]
    asked = await read(core, await body_of(request))
    if asked.body.get("stream"):
        return await _Stream(request, asked).run()
    output = Output(core, asked.job)
    summary = await finished_summary(request, asked.job, lambda event: list(output.feed(event)))
    response = answer.begun(core, asked)
    list(output.close("incomplete"))
    answer.finish(core, asked, response, output.items, summary)
    return json_response(response)


class _Stream(PredictionStream):
    """Tells of a response while it is made; every event has a name and a sequence number."""

    def __init__(self, request: web.Request, asked: Asked) -> None:
        super().__init__(request, asked.job)
        self._asked = asked
        self._output = Output(self._core, asked.job)
        self._response: dict[str, Any] = {}
        self._sequence = 0

    async def _send(self, kind: str, **fields: Any) -> None:
        name = f"response.{kind}"
        numbered = {"type": name, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        await self._sse.send(dumps(numbered), event=name)

    async def _begin(self) -> None:
        """Tell of the response; before that a failure has its own status."""
        if not self._response:
            self._response = answer.begun(self._core, self._asked)
            await self._send("created", response=self._response)
            await self._send("in_progress", response=self._response)

    async def _event(self, event: EngineEvent) -> None:
        if isinstance(event, events.Begins):
            await self._begin()
        for kind, fields in self._output.feed(event):
            await self._send(kind, **fields)

    async def _finish(self, summary: Summary) -> None:
        for kind, fields in self._output.close("incomplete"):
            await self._send(kind, **fields)
        answer.finish(self._core, self._asked, self._response, self._output.items, summary)
        await self._send(self._response["status"], response=self._response)

    async def _tell(self, error: EmulatedError, _summary: Summary, /) -> None:
        await self._begin()
        if self._core.settings.responses_error_event:
            fields = {**error.compat_object(), "type": "error", "sequence_number": self._sequence}
            await self._sse.send(dumps(fields), event="error")
            return
        answer.fail(self._response, self._output.items, error)
        await self._send("failed", response=self._response)
