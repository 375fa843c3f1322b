"""The clocks of a call: time stamps, and when they are to be read; no timer for each event."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lmbridge.errors import TimedOut

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lmbridge.chat import Timeouts
    from lmbridge.context import Context
    from lmbridge.ticker import Ticker

__all__ = ["Watchdog"]


def _nothing(_: TimedOut) -> None:
    pass


class Watchdog:
    """Calls ``expire`` with a ``TimedOut`` when a clock of the call runs out.

    ``total`` runs from the start; ``first_event`` from the moment the provider is called, and again from
    each progress report; ``idle`` from each event once the answer has begun. A sign of life that is no event
    (an SSE comment) resets ``idle`` only: a server that sends nothing else never answers.
    """

    __slots__ = (
        "_answering",
        "_context",
        "_expire",
        "_loop",
        "_shortest",
        "_ticker",
        "_timeouts",
        "_total",
        "due",
        "last",
        "stepping",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ticker: Ticker,
        timeouts: Timeouts,
        expire: Callable[[TimedOut], None],
    ) -> None:
        self._loop = loop
        self._ticker = ticker
        self._timeouts = timeouts
        self._expire = expire
        #: When the ticker is to look at the clocks.
        self.due = 0.0
        self._answering = False
        first, idle = timeouts.first_event or 0.0, timeouts.idle or 0.0
        self._shortest = min(first, idle) or first or idle
        self._context: Context | None = None
        #: When the last event came, by the loop's clock. The driver of the call writes it.
        self.last = loop.time()
        #: The task that waits for the provider. ``None`` while the reader looks at events: how long it takes
        #: is not the server's silence.
        self.stepping: asyncio.Task[Any] | None = None
        self._total: asyncio.TimerHandle | None = None
        if timeouts.total:
            self._total = loop.call_later(timeouts.total, self._out, "total", timeouts.total)

    def called(self, context: Context) -> None:
        """The provider is being called."""
        self._context = context
        self._answering = False
        self.last = now = self._loop.time()
        if self._shortest:
            self.due = now + self._shortest
            self._ticker.add(self)

    def answering(self) -> None:
        """The answer has begun: from now on the idle clock counts."""
        self._answering = True

    def pause(self) -> None:
        """Nothing is expected of the provider (it has ended, or a retry waits)."""
        self._ticker.drop(self)

    def stop(self) -> None:
        """Stop every clock, for good."""
        self.stepping = None
        self.pause()
        if self._total is not None:
            self._total.cancel()
        self._expire = _nothing  # who called is free at once, not when the collector comes: it holds pictures

    def look(self, now: float) -> None:
        """See which clocks have run out; called by the ticker."""
        name = "idle" if self._answering else "first_event"
        limit = (self._timeouts.idle if self._answering else self._timeouts.first_event) or math.inf
        since = now if self.stepping is None else self.last
        if self._answering and self._context is not None:
            since = max(since, self._context.alive_at)
        if now >= since + limit:
            self.pause()
            self._out(name, limit)
        else:
            # It wakes for the shorter clock, too: that may be the one that counts by then.
            self.due = min(since + limit, now + self._shortest)

    def _out(self, clock: str, seconds: float) -> None:
        what = {
            "total": f"the call took longer than {seconds:g} s",
            "first_event": f"the server sent nothing for {seconds:g} s",
            "idle": f"the server fell silent for {seconds:g} s in the middle of its answer",
        }[clock]
        self._expire(TimedOut(what, clock=clock, seconds=seconds, hint=f"raise the {clock} timeout"))
