"""Work on the runtime's thread that a node waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from . import _host

if TYPE_CHECKING:
    import concurrent.futures

__all__ = ["or_interrupted"]

_T = TypeVar("_T")

#: ComfyUI tells nobody of a cancel; its flag has to be looked at.
_LOOK_SECONDS = 0.05


async def or_interrupted(work: concurrent.futures.Future[_T], *, cancel: bool) -> _T:
    """Wait for ``work``, or until the user cancels.

    Args:
        work: what was submitted.
        cancel: cancel the work, too; else it goes on by itself.

    Raises:
        BaseException: ComfyUI's own, if the user cancels.
    """
    waiting = asyncio.wrap_future(work if cancel else _shield(work))
    while not (await asyncio.wait({waiting}, timeout=_LOOK_SECONDS))[0]:
        if _host.interrupted():
            waiting.cancel()
            raise _host.interruption()
    return waiting.result()


def _shield(work: concurrent.futures.Future[_T]) -> concurrent.futures.Future[_T]:
    """Return a future that ends as ``work`` does, but whose cancellation is its own."""
    import concurrent.futures  # noqa: PLC0415

    outer: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def copy(done: concurrent.futures.Future[_T]) -> None:
        if not outer.set_running_or_notify_cancel():
            return
        exc = None if done.cancelled() else done.exception()
        if done.cancelled() or exc is not None:
            outer.set_exception(exc or asyncio.CancelledError())
        else:
            outer.set_result(done.result())

    work.add_done_callback(copy)
    return outer
