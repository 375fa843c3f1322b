"""Time as the emulator sees it: the real one, or one that a test moves."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import time
from typing import Protocol

from lmbridge.emulator.aio import Pulse


class Clock(Protocol):
    """A clock that only goes forward, in seconds."""

    def now(self) -> float:
        """Return the present, from an arbitrary zero."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less only lets others run."""
        ...

    def advance(self, seconds: float) -> None:
        """Move the clock forward (from the emulator's own loop) and wake those whose time has come.

        Raises:
            ValueError: a clock does not go back.
        """
        ...


class SystemClock:
    """The machine's monotonic clock, which can be put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._moved = Pulse()

    def now(self) -> float:
        """Return the present."""
        return time.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Wait for real, or until the clock has been put forward that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        due = self.now() + seconds
        while (left := due - self.now()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        _check_forward(seconds)
        self._ahead += seconds
        self._moved.send()


class FakeClock:
    """A clock that stands still until `advance` is called (from the emulator's own loop)."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Return the present."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), waiter))
        await waiter

    def advance(self, seconds: float) -> None:
        """Move the clock forward and wake those whose time has come."""
        _check_forward(seconds)
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)


def _check_forward(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise ValueError("a clock does not go back")
