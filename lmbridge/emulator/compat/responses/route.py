"""The route itself, streamed or not (docs: openai-compat/responses; events: OpenAI's Responses API)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, events
from lmbridge.emulator.compat.answer import finished_summary
from lmbridge.emulator.compat.responses import answer
from lmbridge.emulator.compat.responses.output import Output
from lmbridge.emulator.compat.responses.request import Asked, read
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


class _Stream:
    """Tells of a response while it is made; every event has a name and a sequence number."""

    def __init__(self, request: web.Request, asked: Asked) -> None:
        self._request = request
        self._core = request.app[CORE]
        self._asked = asked
        self._output = Output(self._core, asked.job)
        self._response: dict[str, Any] = {}
        self._sequence = 0
        self._sse = EventStream(request)

    async def run(self) -> web.StreamResponse:
        async with Prediction(self._request, self._asked.job, streaming=True) as generation:
            async for event in generation:
                if isinstance(event, Done):
                    return await self._end(event)
                await self._event(event)
        raise RuntimeError("a prediction ends with Done")

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

    async def _end(self, done: Done) -> web.StreamResponse:
        if done.drop:
            drop_connection(self._request)
            return await self._sse.begin()
        error = done.error
        if error is None and done.summary.stop_reason == "modelUnloaded":
            error = errors.unloaded()
        if error is not None:
            await self._fails(error)
            return await self._sse.finish()
        for kind, fields in self._output.close("incomplete"):
            await self._send(kind, **fields)
        answer.finish(self._core, self._asked, self._response, self._output.items, done.summary)
        await self._send(self._response["status"], response=self._response)
        present_record().end("finished")
        return await self._sse.finish()

    async def _fails(self, error: EmulatedError) -> None:
        """Report an error inside the stream.

        Raises:
            EmulatedError: nothing has been sent, so that the status can still tell.
        """
        overflow = self._core.settings.overflow if isinstance(error, ContextOverflow) else "error"
        if overflow == "silent":
            return
        if not self._sse.begun and overflow != "in_stream":
            raise error
        await self._begin()
        if self._core.settings.responses_error_event:
            fields = {**error.compat_object(), "type": "error", "sequence_number": self._sequence}
            await self._sse.send(dumps(fields), event="error")
            return
        answer.fail(self._response, self._output.items, error)
        await self._send("failed", response=self._response)
