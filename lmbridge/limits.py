"""A fair, cancellable limit of concurrent calls, shared by all loops, threads and bridges of the process."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Hashable

__all__ = ["Limiter", "limiter"]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Waiter:
    __slots__ = ("future", "granted", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.granted = False

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Limiter:
    """At most ``limit`` holders at once (``None``: any number), served first come, first served.

    asyncio's own semaphore belongs to one loop; ComfyUI, the command line and a gateway in one process
    have several, and the server that they share has only so many slots. What was held on a loop that is
    closed by now is free again: nobody is left to give it back.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._active = 0
        self._held: dict[asyncio.AbstractEventLoop | None, int] = {}
        self._waiting: deque[_Waiter] = deque()

    @property
    def active(self) -> int:
        """Holders at this moment."""
        return self._active

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._waiting)

    def resize(self, limit: int | None) -> None:
        """Change the limit; holders keep what they have."""
        with self._lock:
            self._limit = limit
            self._grant()

    def try_acquire(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        with self._lock:
            self._grant()
            if self._waiting or not self._free():
                return False
            self._take(_running_loop())
            return True

    async def acquire(self) -> None:
        """Wait for a slot. A cancelled wait takes none."""
        if self.try_acquire():
            return
        waiter = _Waiter()
        with self._lock:
            self._waiting.append(waiter)
            self._grant()  # the last holder may have gone meanwhile
        try:
            await waiter.future
        except BaseException:
            self._abandon(waiter)
            raise

    def release(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Give a slot back; may be called from any thread.

        Args:
            loop: the one on which it was taken; by default the running one.
        """
        holder = loop or _running_loop()
        with self._lock:
            if loop is None and holder not in self._held:
                holder = None  # taken where no loop ran
            self._give_back(holder)
            self._grant()

    def forget(self) -> None:
        """Begin anew, without holders and without a queue."""
        self._lock = threading.Lock()
        self._active = 0
        self._held.clear()
        self._waiting.clear()

    def _take(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._active += 1
        self._held[loop] = self._held.get(loop, 0) + 1

    def _give_back(self, loop: asyncio.AbstractEventLoop | None) -> None:
        count = self._held.pop(loop, 0)
        if not count:
            return  # its loop was closed, and the slot with it
        self._active -= 1
        if count > 1:
            self._held[loop] = count - 1

    def _free(self) -> bool:
        if self._limit is None or self._active < self._limit:
            return True
        for loop in [loop for loop in self._held if loop is not None and loop.is_closed()]:
            self._active -= self._held.pop(loop)
        return self._active < self._limit

    def _abandon(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.granted:
                self._give_back(waiter.loop)
                self._grant()
            elif waiter in self._waiting:  # it is not if its loop was found closed
                self._waiting.remove(waiter)

    def _grant(self) -> None:
        while self._waiting and self._free():
            waiter = self._waiting.popleft()
            try:
                waiter.loop.call_soon_threadsafe(waiter.wake)
            except RuntimeError:  # its loop was closed with the call still queued
                continue
            waiter.granted = True
            self._take(waiter.loop)


_lock = threading.Lock()
_limiters: dict[Hashable, Limiter] = {}


def limiter(key: Hashable) -> Limiter:
    """Return the process's limiter for ``key``."""
    with _lock:
        return _limiters.setdefault(key, Limiter())


def _begin_anew() -> None:
    """A child process has none of the calls that its parent is making."""
    global _lock  # noqa: PLW0603 - another thread may have held it when the process was forked
    _lock = threading.Lock()
    for item in _limiters.values():  # who holds on to one goes on to use it
        item.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
