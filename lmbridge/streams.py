"""Calls under way, as context managers: leaving them ends the call, in whatever way and phase.

Written as classes: an ``asynccontextmanager`` is one more async generator, and each of those costs a request
about as much as encoding it does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from lmbridge.calls import Call
from lmbridge.errors import Cancelled
from lmbridge.isolation import LEAVE_SECONDS, isolated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from types import AsyncGeneratorType, TracebackType

    from lmbridge.calls import Plan
    from lmbridge.events import Event
    from lmbridge.runtime import LoopResources

__all__ = ["Running", "Stream"]


class Running:
    """A call: entering prepares it, stepping the iterator begins it, leaving ends it within a moment.

    Args:
        prepare: makes the plan; its errors are raised on entering.
        resources: of the running loop.
    """

    __slots__ = ("_batches", "_call", "_prepare", "_resources")

    def __init__(self, prepare: Callable[[], Awaitable[Plan]], resources: LoopResources) -> None:
        self._prepare = prepare
        self._resources = resources

    async def __aenter__(self) -> AsyncGenerator[list[Event], None]:
        plan = await self._prepare()
        resources = self._resources
        self._call = call = Call(plan, resources)
        if resources.closed:
            call.interrupt(Cancelled("the bridge was closed"))
        # Generators know whether somebody steps them; their abstract type does not say so.
        self._batches = cast(
            "AsyncGeneratorType[list[Event], None]",
            call.batches() if plan.cooperative else isolated(call, resources),
        )
        resources.closing.add(self.end)
        return self._batches

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.closing.discard(self.end)
        batches = self._batches
        if batches.ag_running:
            self.end()  # another task reads: it is the one to close it
        elif batches.ag_frame is not None:
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAVE_SECONDS):
                        await batches.aclose()
            finally:
                self._call.leave()  # a call that was never begun has a clock, too

    def end(self) -> None:
        """Make whoever reads meet a ``Cancelled``."""
        self._call.interrupt(Cancelled("the call was stopped"))


class Stream(Running):
    """A call whose events are read one by one."""

    __slots__ = ("_events",)

    async def __aenter__(self) -> AsyncIterator[Event]:  # type: ignore[override]  # one by one is the point
        batches = await super().__aenter__()
        self._events = cast("AsyncGeneratorType[Event, None]", _singly(batches))
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        events = self._events
        if not events.ag_running and events.ag_frame is not None:
            await events.aclose()
        await super().__aexit__(kind, exc, trace)


async def _singly(batches: AsyncGenerator[list[Event], None]) -> AsyncGenerator[Event, None]:
    async for batch in batches:
        for event in batch:
            yield event
