"""One timer of a loop for the clocks of all its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["Ticker", "Watched"]


class Watched(Protocol):
    """What is looked at when its time has come.

    Attributes:
        due: when that is, by the loop's clock.
    """

    due: float

    def look(self, now: float) -> None:
        """Act, and set a later ``due`` or have the ticker drop it."""
        ...


class Ticker:
    """Looks at each of the watched when it is due.

    To set and cancel a timer costs a request more than all else that its clocks need, and nearly every timer
    is cancelled long before its time. So there is one, for whatever is due first; dropping leaves it alone.
    """

    __slots__ = ("_loop", "_timer", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._watched: set[Watched] = set()

    def add(self, watched: Watched) -> None:
        """Look at ``watched`` when it is due; also to be called when that becomes earlier."""
        self._watched.add(watched)
        timer = self._timer
        if timer is None or watched.due < timer.when():
            self._set(watched.due)

    def drop(self, watched: Watched) -> None:
        """Look at it no more."""
        self._watched.discard(watched)

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        timer, self._timer = self._timer, None
        # It may come early by the resolution of the loop's clock, which is 16 ms on Windows.
        now = max(self._loop.time(), timer.when() if timer is not None else 0.0)
        try:
            due = [item for item in self._watched if item.due <= now]
            for watched in sorted(due, key=lambda item: item.due):
                if watched in self._watched:  # another may have dropped it meanwhile
                    self._look(watched, now)
        finally:
            if self._watched:
                self._set(min(item.due for item in self._watched))

    def _look(self, watched: Watched, now: float) -> None:
        try:
            watched.look(now)
        except BaseException:
            self.drop(watched)  # it would still be due, for ever
            raise
