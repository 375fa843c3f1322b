"""The resources of one event loop, and the long-lived loop thread for callers that have no loop to lend."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from lmbridge.errors import Cancelled
from lmbridge.ticker import Ticker

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
    from contextlib import AbstractAsyncContextManager
    from types import AsyncGeneratorType

    import aiohttp

    from lmbridge.transport import Pool

__all__ = ["LoopResources", "Runtime", "close_elsewhere", "runtime"]

_T = TypeVar("_T")

#: Node servers, LM Studio among them, drop idle connections after 5 s. A shorter life on our side keeps a
#: request from being written into a socket that the server is just closing.
_KEEPALIVE_SECONDS = 4.0
#: How long a bridge that closes waits for another thread's loop.
_CLOSE_SECONDS = 5.0
#: How long an interrupted synchronous call waits for its work to end; the work itself ends within 0.25 s.
_END_SECONDS = 1.0
#: Windows delivers no Ctrl-C to a thread that waits without a time limit.
_WAIT_SECONDS = 0.25 if os.name == "nt" else None


class _Kept:
    """An opened resource and the lock that keeps two calls from opening it twice."""

    __slots__ = ("lock", "manager", "value")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.manager: AbstractAsyncContextManager[Any] | None = None
        self.value: Any = None


class LoopResources:
    """What one bridge keeps open on one loop: the HTTP session, the providers' clients, unfinished tasks.

    Created, used and closed on that loop only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: For the clocks of the calls on this loop.
        self.ticker = Ticker(loop)
        self._session: aiohttp.ClientSession | None = None
        self._pool: Pool | None = None
        self._kept: dict[Hashable, _Kept] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._pid = os.getpid()
        self._closed = False
        self._guard: AsyncGeneratorType[None, None] | None = None
        #: What to call before anything is closed; calls that run register themselves here.
        self.closing: set[Callable[[], object]] = set()

    @property
    def closed(self) -> bool:
        """Whether nothing can be opened here any more."""
        return self._closed

    @property
    def reachable(self) -> bool:
        """Whether the loop runs, in this process: to a forked child its parent's loops look alive."""
        return self._pid == os.getpid() and self.loop.is_running()

    def close_with_loop(self) -> None:
        """Close at the latest when ``asyncio.run`` (or ``shutdown_asyncgens``) ends the loop.

        To be called on the loop. A loop knows the generators that were begun on it, and closes them.
        """
        self._guard = cast("AsyncGeneratorType[None, None]", self._close_late())
        with suppress(StopIteration):  # it has got as far as its ``yield``
            self._guard.__anext__().send(None)

    async def _close_late(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled("the bridge was closed")

    def lock(self, key: Hashable) -> asyncio.Lock:
        """Return this loop's lock for ``key``."""
        return self._locks.setdefault(key, asyncio.Lock())

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session. It follows no proxy variable, keeps no cookie and has no limit of its own.

        Raises:
            Cancelled: the bridge was closed.
        """
        if self._session is None:
            self._check_open()
            import aiohttp  # noqa: PLC0415 - 200 ms that hardly any provider needs

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session

    @property
    def pool(self) -> Pool:
        """The connections of :mod:`lmbridge.http`.

        Raises:
            Cancelled: the bridge was closed.
        """
        if self._pool is None:
            self._check_open()
            from lmbridge.transport import Pool  # noqa: PLC0415 - TLS and the parser, which not all need

            self._pool = Pool(self.loop, keepalive=_KEEPALIVE_SECONDS)
        return self._pool

    async def get(self, key: Hashable, factory: Callable[[], AbstractAsyncContextManager[_T]]) -> _T:
        """Return the resource ``key``, opened by ``factory`` if it is not open yet.

        Raises:
            Cancelled: the bridge was closed.
        """
        kept = self._kept.setdefault(key, _Kept())
        async with kept.lock:
            if kept.manager is None:
                self._check_open()
                manager = factory()
                kept.value = await manager.__aenter__()
                kept.manager = manager
            return cast("_T", kept.value)

    async def discard(self, key: Hashable, value: object | None = None) -> None:
        """Close the resource ``key``, if it is open and (where given) still is ``value``."""
        kept = self._kept.get(key)
        if kept is None:
            return
        async with kept.lock:
            if value is not None and kept.value is not value:
                return  # another call has replaced it
            manager, kept.manager, kept.value = kept.manager, None, None
            if manager is not None:
                await manager.__aexit__(None, None, None)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task that outlives its call, until it ends or the bridge closes."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the calls and tasks, close the clients, then the session. Idempotent."""
        self._closed = True
        guard, self._guard = self._guard, None
        for end in list(self.closing):
            end()
        try:
            await self._end_tasks()
        finally:  # whoever is cancelled here has still to close
            await self._close_all()
            if guard is not None and not guard.ag_running:
                await guard.aclose()

    async def _close_all(self) -> None:
        try:
            await asyncio.gather(*(self.discard(key) for key in list(self._kept)), return_exceptions=True)
        finally:
            session, self._session = self._session, None
            pool, self._pool = self._pool, None
            if pool is not None:
                await pool.close()
            if session is not None:
                await session.close()

    async def _end_tasks(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)


async def close_elsewhere(resources: LoopResources) -> None:
    """Close on another thread's loop; one that is too busy, or just ends, must not hold the caller."""
    closing = resources.close()
    try:
        future = asyncio.run_coroutine_threadsafe(closing, resources.loop)
    except RuntimeError:  # its loop was closed meanwhile
        closing.close()
        return
    done, _ = await asyncio.wait({asyncio.wrap_future(future)}, timeout=_CLOSE_SECONDS)
    for ended in done:
        if not ended.cancelled():  # a loop that ends cancels its tasks, and closes what is left itself
            ended.result()


class _Job(Generic[_T]):
    """A coroutine on another thread's loop, whose end can be waited for even once it is cancelled."""

    def __init__(self, coroutine: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._task: asyncio.Task[_T] | None = None
        self._ended = threading.Event()
        self._submitted = False

    def start(self) -> None:
        """Hand the coroutine to the loop."""
        self._submitted = True
        self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._ended.set())

    def result(self) -> _T:
        """Wait for the end and return the result.

        Raises:
            Cancelled: somebody cancelled the task.
        """
        while not self._ended.wait(_WAIT_SECONDS):
            pass
        task = cast("asyncio.Task[_T]", self._task)
        if task.cancelled():
            raise Cancelled("the call was cancelled on the runtime's thread")
        return task.result()

    def cancel(self) -> None:
        """Cancel the task, and wait a moment for its end."""
        if not self._submitted:
            self._coroutine.close()
        elif not self._ended.is_set():
            self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
            self._ended.wait(_END_SECONDS)


class Runtime:
    """One daemon thread with one event loop that lives as long as the process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self.thread = threading.Thread(target=self._main, name="lmbridge-runtime", daemon=True)
        self.thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def usable(self) -> bool:
        """Whether the thread runs in this process; it does not survive a fork."""
        return self._pid == os.getpid() and self.thread.is_alive()

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Start ``coroutine`` on the loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run ``coroutine`` on the loop and wait; an interrupt (Ctrl-C) cancels it and waits for its end.

        Raises:
            RuntimeError: called on the runtime's own thread, which would wait for itself.
            Cancelled: somebody cancelled the work.
        """
        if threading.current_thread() is self.thread:
            coroutine.close()
            raise RuntimeError("a synchronous call on the runtime's own thread would wait for itself")
        job = _Job(coroutine, self.loop)
        try:
            job.start()  # inside: an interrupt may come as soon as the work runs
            return job.result()
        except BaseException:
            job.cancel()
            raise


_lock = threading.Lock()
_runtime: Runtime | None = None


def runtime() -> Runtime:
    """Return the process's runtime, started at the first call."""
    global _runtime  # noqa: PLW0603 - one thread a process is the point
    with _lock:
        if _runtime is None or not _runtime.usable:
            _runtime = Runtime()
        return _runtime


def _begin_anew() -> None:
    """Another thread may have held the lock when the process was forked."""
    global _lock  # noqa: PLW0603 - see above
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
