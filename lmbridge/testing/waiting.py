"""Waiting for what another thread does, from any loop or none, without looking again and again."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Waiting"]

_T = TypeVar("_T")


class Waiting:
    """Conditions that somebody waits for; whoever changes something calls :meth:`changed`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiters: list[tuple[Callable[[], Any], Future[Any]]] = []

    def changed(self) -> None:
        """Look at every condition."""
        with self._lock:
            for waiter in list(self._waiters):
                condition, future = waiter
                try:
                    value = condition()
                except Exception as exc:  # noqa: BLE001 - belongs to whoever waits
                    self._waiters.remove(waiter)
                    _tell(future, exc)
                    continue
                if value:
                    self._waiters.remove(waiter)
                    _tell(future, value)

    def future(self, condition: Callable[[], Any]) -> Future[Any]:
        """Return a future of the first true value of ``condition``."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiters.append((condition, future))
            self.changed()
        return future

    def wait(self, condition: Callable[[], _T], seconds: float, describe: Callable[[], str]) -> _T:
        """Block until ``condition`` is true, and return its value.

        Raises:
            TimeoutError: it did not become true; the text says how things stand.
        """
        future = self.future(condition)
        try:
            value: _T = future.result(seconds)
        except TimeoutError:
            raise _late(seconds, describe) from None
        return value

    async def until(self, condition: Callable[[], _T], seconds: float, describe: Callable[[], str]) -> _T:
        """Wait as :meth:`wait` does, without blocking the running loop."""
        try:
            async with asyncio.timeout(seconds):
                value: _T = await asyncio.wrap_future(self.future(condition))
        except TimeoutError:
            raise _late(seconds, describe) from None
        return value


def _tell(future: Future[Any], value: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return  # nobody waits any more
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)


def _late(seconds: float, describe: Callable[[], str]) -> TimeoutError:
    return TimeoutError(f"waited for {seconds:g} s in vain; {describe()}")
