"""One call on lmbridge's own thread: streamed to its node, and stopped by ComfyUI's cancel.

The loop that runs ``execute`` stands still while a sampler works on another branch. The call, its updates and
the look at ComfyUI's cancel flag are therefore on the thread of lmbridge's runtime.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from lmbridge.errors import Cancelled, LMBridgeError
from lmbridge.folding import Fold
from lmbridge.runtime import runtime

from . import _host
from .display import Bar, Display
from .problems import sentence
from .service import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.chat import Request
    from lmbridge.events import Result

    from .screens import Screen

__all__ = ["Call", "running_calls", "stop_calls"]

#: ComfyUI tells nobody of a cancel; its flag has to be looked at.
_LOOK_SECONDS = 0.05

_lock = threading.Lock()
_running: set[Call] = set()


class Call:
    """A request to a connection.

    Args:
        connection: name of the connection.
        request: what to ask.
        screen: the node that shows it.
        index: number of the call within the node.
    """

    def __init__(self, connection: str, request: Request, screen: Screen, index: int = 0) -> None:
        self.connection = connection
        self.request = request
        self.screen = screen
        self.fold = Fold()
        self.index = index
        self._outcome: concurrent.futures.Future[Result] = concurrent.futures.Future()
        self._work: concurrent.futures.Future[None] | None = None
        self._bar: Bar | None = None
        self._begun = False

    def start(self) -> None:
        """Begin, on the prompt's own loop.

        Not a coroutine: ComfyUI gives ``execute`` one step, and the next one may come only after a sampler.
        """
        self._loop = asyncio.get_running_loop()
        self._bar_moved = asyncio.Event()
        with _lock:
            _running.add(self)
        self._work = runtime().submit(self._run())
        self._work.add_done_callback(self._never_begun)

    def _never_begun(self, _: object) -> None:
        """A call that is left before its thread has come to it has no end of its own."""
        if not self._begun:
            with _lock:
                _running.discard(self)

    async def result(self) -> Result:
        """Wait for the answer, on the prompt's own loop, and return it.

        Raises:
            LMBridgeError: see :mod:`lmbridge.errors`.
            BaseException: ComfyUI's own, if the user cancels.
        """
        bar = asyncio.create_task(self._move_bar())
        try:
            return await asyncio.wrap_future(self._outcome)
        finally:
            bar.cancel()
            self.leave()

    def leave(self) -> None:
        """End the call, if it has not ended: nobody waits for it any more."""
        if self._work is not None:
            self._work.cancel()

    def stop(self) -> bool:
        """End the call as the user's cancel does, if it has not ended; any thread may call it."""
        stopped = self._fail(_host.interruption())
        self.leave()
        return stopped

    # -- on the runtime's thread -----------------------------------------------------------------------

    async def _run(self) -> None:
        self._begun = True
        limit = self.request.options.max_tokens
        display = Display(
            self.screen, self.index, max_tokens=limit if limit and limit > 0 else None, moved=self._move
        )
        display.begin()
        watching = asyncio.create_task(self._watch())
        try:
            result = await self._stream(display)
        except LMBridgeError as error:
            display.end("failed", sentence(error))
            self._fail(error)
        except BaseException as exc:
            display.end("cancelled" if isinstance(exc, asyncio.CancelledError) else "failed")
            self._fail(Cancelled("the call was stopped") if isinstance(exc, asyncio.CancelledError) else exc)
            raise
        else:
            display.end("done")
            with suppress(concurrent.futures.InvalidStateError):
                self._outcome.set_result(result)
        finally:
            watching.cancel()
            with _lock:
                _running.discard(self)

    async def _stream(self, display: Display) -> Result:
        bridge = (await asyncio.to_thread(service.open)).bridge
        async with bridge.stream_batches(self.connection, self.request) as batches:
            async for batch in batches:
                for event in batch:
                    self.fold.add(event)
                    display.take(event)
        return self.fold.result()

    async def _watch(self) -> None:
        while not _host.interrupted():  # noqa: ASYNC110 - ComfyUI tells nobody
            await asyncio.sleep(_LOOK_SECONDS)
        self.stop()

    def _fail(self, exc: BaseException) -> bool:
        try:
            self._outcome.set_exception(exc)
        except concurrent.futures.InvalidStateError:
            return False
        return True

    def _move(self, bar: Bar) -> None:
        if bar != self._bar:
            self._bar = bar
            with suppress(RuntimeError):  # the prompt is over, its loop is closed
                self._loop.call_soon_threadsafe(self._bar_moved.set)

    # -- on the prompt's loop --------------------------------------------------------------------------

    async def _move_bar(self) -> None:
        while True:
            await self._bar_moved.wait()
            self._bar_moved.clear()
            if self._bar is not None:
                await _host.set_progress(self.screen.place.node, *self._bar)


def running_calls() -> Iterator[Call]:
    """Return the calls under way."""
    with _lock:
        return iter(tuple(_running))


def stop_calls(prompt_id: str, node: str) -> int:
    """Stop a node's calls and return how many there were."""
    return sum(call.stop() for call in running_calls() if call.screen.place[:2] == (prompt_id, node))
