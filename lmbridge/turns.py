"""Taking turns where a load costs other models their place: one model's answers end before another is loaded.

LM Studio keeps one model of those that requests have loaded, and unloads the one before even while it answers
(observed, lmstudio-bug-tracker#1796, #671, #644). A request whose model has yet to be loaded therefore waits
for the requests to other models of the same server. Models that are loaded answer side by side.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Turn", "Turns", "turns"]


class _Listings(Protocol):
    def forget(self, key: Hashable, /) -> None: ...


class Turns:
    """The requests to one server, under way and waiting; shared by all loops, threads and bridges."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: list[Turn] = []
        self.waiting: list[Turn] = []
        self._listings: WeakKeyDictionary[_Listings, set[Hashable]] = WeakKeyDictionary()

    def remember(self, listings: _Listings, key: Hashable) -> None:
        """Have ``listings`` forget the connection ``key`` each time that the server has loaded something."""
        with self.lock:
            self._listings.setdefault(listings, set()).add(key)

    def turn(self, model: str, *, loads: bool) -> Turn:
        """Return the turn of a request that has not begun.

        Args:
            model: whose answer is wanted.
            loads: the server has to load it first, as far as is known.
        """
        return Turn(self, model, loads=loads)

    def forget(self) -> None:
        """Begin anew, without requests."""
        self.lock = threading.Lock()
        self.held.clear()
        self.waiting.clear()

    def outdate(self) -> None:
        """The server has loaded something: whatever is known of what it has loaded may be wrong."""
        with self.lock:
            known = [(listings, set(keys)) for listings, keys in self._listings.items()]
        for listings, keys in known:
            for key in keys:
                listings.forget(key)

    def may_begin(self, turn: Turn) -> bool:
        """Whether nothing that runs, or waits for longer, is in its way."""
        if not self.held and not self.waiting:
            return True
        if any(other.loop is not None and other.loop.is_closed() for other in self.held):
            self.held = [other for other in self.held if other.loop is None or not other.loop.is_closed()]
        for other in self.waiting:
            if other is turn:
                break
            if turn.clashes(other):
                return False
        return not any(turn.clashes(other) for other in self.held)

    def wake(self) -> None:
        """Let begin whoever may, in the order of the queue."""
        for turn in list(self.waiting):
            if self.may_begin(turn):
                self.waiting.remove(turn)
                if turn.grant():
                    self.held.append(turn)


class Turn:
    """The place of one request among those to its server; see :meth:`Turns.turn`."""

    __slots__ = ("_future", "_shared", "loads", "loop", "model", "task")

    def __init__(self, shared: Turns, model: str, *, loads: bool) -> None:
        self._shared = shared
        self._future: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[object] | None = None
        self.model = model
        self.loads = loads

    def clashes(self, other: Turn) -> bool:
        """Whether the two must not run at once.

        A task that asks one model while it reads the answer of another would wait for itself.
        """
        if self.model == other.model or not (self.loads or other.loads):
            return False
        return self.task is None or self.task is not other.task

    def try_acquire(self) -> bool:
        """Begin if nothing is in the way."""
        self._here()
        with self._shared.lock:
            if not self._shared.may_begin(self):
                return False
            self._shared.held.append(self)
            return True

    def _here(self) -> asyncio.AbstractEventLoop:
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        return self.loop

    async def acquire(self) -> None:
        """Wait for the turn. A cancelled wait takes none."""
        future = self._future = self._here().create_future()
        with self._shared.lock:
            # Those that it waits for may push its model out, whatever was known before.
            self.loads = self.loads or not self._shared.may_begin(self)
            self._shared.waiting.append(self)
            self._shared.wake()
        try:
            await future
        except BaseException:
            self._end()
            raise

    def grant(self) -> bool:
        """Wake the waiter; ``False`` if its loop is closed."""
        try:
            self.loop.call_soon_threadsafe(self._begin)  # type: ignore[union-attr]  # it waits on a loop
        except RuntimeError:
            return False
        return True

    def _begin(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def release(self, loop: asyncio.AbstractEventLoop | None = None) -> None:  # noqa: ARG002 - as Limiter
        """End the turn; may be called from any thread."""
        if self.loads:
            self._shared.outdate()
        self._end()

    def _end(self) -> None:
        with self._shared.lock:
            for turns_of in (self._shared.held, self._shared.waiting):
                if self in turns_of:
                    turns_of.remove(self)
            if self._shared.waiting:
                self._shared.wake()


_lock = threading.Lock()
_turns: dict[Hashable, Turns] = {}


def turns(key: Hashable) -> Turns:
    """Return the process's turns for a server."""
    with _lock:
        if key not in _turns:
            _turns[key] = Turns()
        return _turns[key]


def _begin_anew() -> None:
    """A child process has none of the calls that its parent is making."""
    global _lock  # noqa: PLW0603 - another thread may have held it when the process was forked
    _lock = threading.Lock()
    for item in _turns.values():  # who holds on to one goes on to use it
        item.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
