"""What a call leaves behind: tasks, generators, threads, warnings, changes of the environment."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

__all__ = ["Remains", "in_new_loop"]

_T = TypeVar("_T")

#: Seconds that tasks and threads get to end by themselves. Only what is left behind costs them.
_SETTLE = 5.0
#: How often tasks that do not end are cancelled before the loop is closed around them.
_CANCELS = 3


class Remains:
    """What was found after a loop's work.

    Attributes:
        tasks: that still ran once the bridge was closed.
        open: async generators that were never closed.
        forgotten: async generators that the garbage collector had to close.
        threads: that still ran once the loop was closed.
        warnings: unclosed resources, and coroutines that nobody awaited.
        reported: what the loop's exception handler was told.
        environment: variables that were changed.

    Args:
        foreign: packages whose own generators do not count.
    """

    def __init__(self, foreign: Iterable[str] = ()) -> None:
        self._foreign = frozenset(foreign)
        self.tasks: list[str] = []
        self.open: list[str] = []
        self.forgotten: list[str] = []
        self.threads: list[str] = []
        self.warnings: list[str] = []
        self.reported: list[str] = []
        self.environment: list[str] = []
        self._begun: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()

    def sentences(self) -> list[str]:
        """Return one sentence for each kind of thing that was left behind."""
        found = {
            "these tasks still run after the bridge was closed": self.tasks,
            "these async generators were never closed": self.open,
            "these async generators were left to the garbage collector": self.forgotten,
            "these threads still run after the loop was closed": self.threads,
            "Python warned": self.warnings,
            "the event loop reported": self.reported,
            "these environment variables were changed": self.environment,
        }
        return [f"{what}: {'; '.join(items)}" for what, items in found.items() if items]

    def watch(self) -> None:
        """Notice every async generator that begins on the running loop."""
        first, last = sys.get_asyncgen_hooks()

        def begins(generator: AsyncGenerator[Any, Any]) -> None:
            self._begun.add(generator)
            if first is not None:
                first(generator)

        def is_forgotten(generator: AsyncGenerator[Any, Any]) -> None:
            if self._counts(generator):
                self.forgotten.append(_place(generator))
            if last is not None:
                last(generator)

        sys.set_asyncgen_hooks(begins, is_forgotten)

    async def look(self) -> None:
        """Wait for what ends by itself, and note what does not."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=_SETTLE)
            self.tasks += [f"{task.get_name()} ({_place(task.get_coro())})" for task in pending]
        left = [item for item in self._begun if getattr(item, "ag_frame", None) is not None]
        self.open += [_place(item) for item in left if self._counts(item)]

    def _counts(self, generator: Any) -> bool:
        code = getattr(generator, "ag_code", None)
        return code is None or self._foreign.isdisjoint(Path(code.co_filename).parts)


def _place(coroutine: Any) -> str:
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "ag_code", None)
    return f"{code.co_qualname} in {code.co_filename}" if code is not None else repr(coroutine)


def in_new_loop(work: Callable[[], Awaitable[_T]], remains: Remains | None = None) -> _T:
    """Run ``work`` on an event loop of its own, end the loop whatever is left, and note what was.

    With ``remains``, to be used by one thread at a time.
    """
    if remains is None:
        return _run(work, None)
    threads, environment = set(threading.enumerate()), dict(os.environ)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return _run(work, remains)
        finally:
            gc.collect()
            remains.warnings += [str(item.message) for item in caught if _tells_of_a_leak(item)]
            remains.threads += _still_running(set(threading.enumerate()) - threads)
            changed = set(environment.items()) ^ set(os.environ.items())
            remains.environment += sorted({name for name, _ in changed} - {"PYTEST_CURRENT_TEST"})


def _tells_of_a_leak(warning: warnings.WarningMessage) -> bool:
    if issubclass(warning.category, ResourceWarning):
        return True
    return issubclass(warning.category, RuntimeWarning) and "never awaited" in str(warning.message)


def _still_running(threads: set[threading.Thread]) -> list[str]:
    for thread in threads:
        thread.join(_SETTLE)
    return [thread.name for thread in threads if thread.is_alive()]


def _run(work: Callable[[], Awaitable[_T]], remains: Remains | None) -> _T:
    loop = asyncio.new_event_loop()
    reported = [] if remains is None else remains.reported
    loop.set_exception_handler(lambda _, told: reported.append(_told(told)))

    async def main() -> _T:
        if remains is None:
            return await work()
        remains.watch()
        try:
            return await work()
        finally:
            await remains.look()

    try:
        return loop.run_until_complete(main())
    finally:
        _end(loop)


def _told(context: dict[str, Any]) -> str:
    exc = context.get("exception")
    return f"{context.get('message', '')} {exc!r}" if exc else str(context.get("message", ""))


def _end(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(_CANCELS):
        if not (tasks := asyncio.all_tasks(loop)):
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=_SETTLE))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
