"""What hooks return, with the right plugin's name on what it raises.

What a provider or a middleware raises by mistake becomes a ``PluginError`` with its name, and what it raises
on purpose (our own errors) passes.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, NoReturn

from lmbridge.errors import LMBridgeError, PluginError
from lmbridge.verdicts import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

__all__ = ["AUTHOR_ERRORS", "ITERATING", "Begun", "Source", "awaited", "blame", "blamed", "late", "reraise"]

#: What an author's code may raise that must not end the process. ``GeneratorExit`` is no ``Exception``, and
#: the LM Studio SDK lets one escape.
AUTHOR_ERRORS = (Exception, GeneratorExit)

#: Hooks whose answer is an async iterator, not an awaitable.
ITERATING = frozenset({"load_model", "stream"})


def blame(exc: BaseException, plugin: str) -> LMBridgeError:
    """Return ``exc`` as an error of ours: itself, or a ``PluginError`` that names ``plugin``."""
    if isinstance(exc, LMBridgeError):
        return exc
    error = PluginError(
        f"plugin {plugin!r} raised {type(exc).__name__}: {shown(str(exc))}",
        hint="this is a bug of the plugin, please report it to its author",
    )
    error.__cause__ = exc
    return error


def _in_a_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def reraise(exc: BaseException, plugin: str) -> NoReturn:
    """Raise what :func:`blame` makes of ``exc``."""
    if isinstance(exc, GeneratorExit) and not _in_a_task():
        raise exc  # the plugin did not raise it: a forgotten coroutine is being cleared away
    error = blame(exc, plugin)
    if error is exc:
        raise exc
    raise error from exc


class Source:
    """A provider's own iterator, as middleware sees it: single events, errors with the right name.

    The core reaches through to :attr:`iterator` when no middleware stands between.
    """

    __slots__ = ("_batch", "iterator", "plugin")

    def __init__(self, iterator: Any, plugin: str) -> None:
        self.iterator = iterator
        self.plugin = plugin
        self._batch: list[Any] = []

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        while not self._batch:
            try:
                item = await anext(self.iterator)
            except StopAsyncIteration:
                raise
            except AUTHOR_ERRORS as exc:
                reraise(exc, self.plugin)
            self._batch = item[::-1] if isinstance(item, list) else [item]
        return self._batch.pop()

    async def aclose(self) -> None:
        """Close the provider's iterator."""
        close = getattr(self.iterator, "aclose", None)
        if close is not None:
            await close()


class _Blamed:
    """What a middleware returned in the place of an iterator, with its name on what it raises."""

    __slots__ = ("_iterator", "_plugin")

    def __init__(self, iterator: Any, plugin: str) -> None:
        self._iterator = iterator
        self._plugin = plugin

    def __aiter__(self) -> _Blamed:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._iterator)
        except StopAsyncIteration:
            raise
        except AUTHOR_ERRORS as exc:
            reraise(exc, self._plugin)

    async def aclose(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


async def awaited(value: Awaitable[Any], plugin: str) -> Any:
    """Await what a hook of ``plugin`` returned."""
    try:
        return await value
    except AUTHOR_ERRORS as exc:
        reraise(exc, plugin)


def blamed(value: Any, hook: str, plugin: str) -> Any:
    """Return what a middleware gave in the place of the inner answer, with its name on what it raises."""
    if hook in ITERATING and hasattr(value, "__aiter__"):
        return _Blamed(aiter(value), plugin)
    if hook not in ITERATING and inspect.isawaitable(value):
        return awaited(value, plugin)
    wanted = "an async iterator" if hook in ITERATING else "an awaitable"
    raise PluginError(
        f"middleware {plugin!r} returned {type(value).__name__} from {hook!r}, not {wanted}",
        hint="a wrapper returns what it got from its yield, or something in its place",
    )


class Begun:
    """Coroutines that a hook returned. One that a middleware drops is closed, so that no warning is left."""

    __slots__ = ("_coroutines",)

    def __init__(self, *values: Any) -> None:
        self._coroutines = [value for value in values if inspect.iscoroutine(value)]

    @property
    def iterator(self) -> Begun:
        """What the core closes at the end of the call."""
        return self

    async def aclose(self) -> None:
        """Close what was never awaited."""
        for coroutine in self._coroutines:
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()


async def late(value: Awaitable[Any], plugin: str) -> AsyncIterator[Any]:
    """Iterate what an ``async def`` returned: an author wrote ``return`` where others write ``yield``."""
    iterator = Source(aiter(await value), plugin)
    try:
        async for item in iterator:
            yield item
    finally:
        await iterator.aclose()
