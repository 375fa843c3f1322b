"""An answer that is streamed: what all routes have in common; what their events look like is their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from lmbridge.emulator import errors
from lmbridge.emulator.errors import ContextOverflow, EmulatedError
from lmbridge.emulator.events import Done, EngineEvent
from lmbridge.emulator.http_support import CORE, EventStream, Prediction, drop_connection, present_record

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.job import Job, Summary


class PredictionStream(ABC):
    """Puts the events of a prediction into those of a route.

    The status is not sent before the first event, so that what fails earlier has its own status.

    Args:
        request: whose answer it is.
        job: what to predict.
    """

    def __init__(self, request: web.Request, job: Job) -> None:
        self._request = request
        self._core = request.app[CORE]
        self._job = job
        self._sse = EventStream(request)

    async def run(self) -> web.StreamResponse:
        """Predict and answer."""
        async with Prediction(self._request, self._job, streaming=True) as generation:
            async for event in generation:
                if isinstance(event, Done):
                    return await self._end(event)
                await self._event(event)
        raise RuntimeError("a prediction ends with Done")

    async def _end(self, done: Done) -> web.StreamResponse:
        if done.drop:
            drop_connection(self._request)
            return await self._sse.begin()
        error = done.error
        if error is None and done.summary.stop_reason == "modelUnloaded":
            error = errors.unloaded()
        if error is not None and await self._fails(error, done.summary):
            return await self._sse.finish()
        await self._finish(done.summary)
        present_record().end("finished")
        return await self._sse.finish()

    async def _fails(self, error: EmulatedError, summary: Summary) -> bool:
        """Report an error inside the stream; True if the stream ends with it.

        Raises:
            EmulatedError: nothing has been sent, so that the status can still tell.
        """
        overflow = self._core.settings.overflow if isinstance(error, ContextOverflow) else "error"
        if overflow != "silent":
            if not self._sse.begun and overflow != "in_stream":
                raise error
            await self._tell(error, summary)
        return True

    @abstractmethod
    async def _event(self, event: EngineEvent) -> None:
        """Send what an event of the engine means."""

    @abstractmethod
    async def _tell(self, error: EmulatedError, summary: Summary, /) -> None:
        """Send an error."""

    @abstractmethod
    async def _finish(self, summary: Summary) -> None:
        """Send the end of the answer."""
