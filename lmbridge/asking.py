"""Hooks that are no conversation: one answer, or a model that is being loaded."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from lmbridge.answers import AUTHOR_ERRORS, blame
from lmbridge.catalog import LoadedInstance, Model
from lmbridge.chat import Message, Request
from lmbridge.context import Context
from lmbridge.errors import Cancelled, LMBridgeError, PluginError
from lmbridge.events import Progress, Result
from lmbridge.operations import CompleteRequest, DownloadStatus, Embeddings, Health, LoadRequest
from lmbridge.preparation import adapt, validate_options
from lmbridge.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from lmbridge.catalog import ProviderInfo
    from lmbridge.chat import Timeouts
    from lmbridge.limits import Limiter
    from lmbridge.plugins import Plugins
    from lmbridge.runtime import LoopResources
    from lmbridge.settings import Connection
    from lmbridge.turns import Turn

__all__ = ["Operation", "completion", "finished", "limited", "load"]

#: What the hooks that answer once must answer with; a tuple of one: a sequence of such.
_ANSWERS: Mapping[str, type | tuple[type]] = {
    "complete": Result,
    "count_tokens": int,
    "download_model": DownloadStatus,
    "embed": Embeddings,
    "health": Health,
    "list_models": (Model,),
    "unload_model": (str,),
}


def _fits(answer: object, wanted: type | tuple[type]) -> bool:
    if isinstance(wanted, type):
        return isinstance(answer, wanted)
    return isinstance(answer, list | tuple) and all(isinstance(item, wanted) for item in answer)


class Operation:
    """One call of a hook: clocks, an end with the bridge, and errors that say where.

    Entered by the task that waits for the hook. Leaving it closes the iterators that the provider returned.

    Args:
        plugins: dispatches the call.
        connection: where it goes.
        resources: of the running loop.
        timeouts: its clocks, all filled in; every report of progress begins ``first_event`` anew.
    """

    __slots__ = (
        "_base",
        "_connection",
        "_interruption",
        "_plugins",
        "_resources",
        "_task",
        "_watchdog",
        "context",
    )

    def __init__(
        self, plugins: Plugins, connection: Connection, resources: LoopResources, timeouts: Timeouts
    ) -> None:
        self._plugins = plugins
        self._connection = connection
        self._resources = resources
        self._interruption: LMBridgeError | None = None
        #: To give to the hook.
        self.context = Context(connection, timeouts, resources)
        self._watchdog = Watchdog(resources.loop, resources.ticker, timeouts, self._interrupt)

    async def __aenter__(self) -> Self:
        self._task = task = cast("asyncio.Task[Any]", asyncio.current_task())
        if task.cancelling():
            await asyncio.sleep(0)  # one asked for while the task ran, as by Ctrl-C, comes here
        self._base = task.cancelling()
        self._watchdog.stepping = task
        self._resources.closing.add(self.end)
        if self._resources.closed:
            self.end()
        return self

    def begin(self, hook: str, request: Any = None) -> Any:
        """Call ``hook`` and return what it returns; until then only ``total`` counts."""
        self._watchdog.called(self.context)
        arguments = (
            {"context": self.context} if request is None else {"request": request, "context": self.context}
        )
        return self._plugins.call(hook, self._connection.name, **arguments)

    async def answer(self, hook: str, request: Any = None) -> Any:
        """Call a hook that answers once, and return its answer."""
        answer = await self.begin(hook, request)
        if not _fits(answer, _ANSWERS[hook]):
            raise self.wrong(answer, f"the answer of {hook!r}")
        return answer

    def wrong(self, value: object, expected: str) -> PluginError:
        """Return the error of a provider that gave ``value``."""
        provider, given = self._connection.provider, type(value).__name__
        return PluginError(f"plugin {provider!r} gave {given} where {expected} was expected")

    def progressed(self) -> None:
        """The server has said something."""
        self._watchdog.last = self._resources.loop.time()

    def end(self) -> None:
        """Make the task meet a ``Cancelled``."""
        self._interrupt(Cancelled("the bridge was closed"))

    def _interrupt(self, error: LMBridgeError) -> None:
        if self._interruption is None:
            self._interruption = error
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.pause()
        for source in self.context.owned:
            exc = await self._closed(source.iterator) or exc
        self._watchdog.stop()
        self._resources.closing.discard(self.end)
        if not (isinstance(exc, GeneratorExit) and self._is_destroyed()):
            self._raise(exc)

    async def _closed(self, iterator: Any) -> asyncio.CancelledError | None:
        try:
            with suppress(*AUTHOR_ERRORS):
                await iterator.aclose()
        except asyncio.CancelledError as exc:
            return exc
        return None

    def _is_destroyed(self) -> bool:
        """Whether a forgotten coroutine is being cleared away; the LM Studio SDK raises such, too."""
        try:
            return asyncio.current_task() is not self._task
        except RuntimeError:
            return True

    def _raise(self, exc: BaseException | None) -> None:
        """Raise what the caller is told in the place of ``exc``, or return if that is ``exc`` itself."""
        left = self._task.cancelling() if self._interruption is None else self._task.uncancel()
        if isinstance(exc, asyncio.CancelledError):
            if left > self._base:
                raise exc  # somebody cancels the caller
        elif exc is None or not isinstance(exc, AUTHOR_ERRORS):
            return
        connection = self._connection
        error = self._interruption or blame(exc, connection.provider)
        error.locate(connection.name, connection.provider, connection.secrets)
        if error is not exc:
            raise error from error.__cause__


async def limited(
    operation: Operation, places: Sequence[Limiter | Turn], hook: str, request: object
) -> object:
    """Call a hook within ``operation`` while ``places`` are held, taken in their order."""
    loop, taken = asyncio.get_running_loop(), list[Any]()
    async with operation:
        try:
            for place in places:
                await place.acquire()
                taken.append(place)
            return await operation.answer(hook, request)
        finally:
            for place in taken:
                place.release(loop)  # named, because nothing runs when a forgotten call is cleared away


async def load(
    operation: Operation, request: LoadRequest, on_progress: Callable[[Progress], object] | None
) -> LoadedInstance:
    """Load a model within ``operation``, and return the copy."""
    problem: Exception | None = None
    async with operation, aclosing(operation.begin("load_model", request)) as items:
        async for item in items:
            operation.progressed()
            if isinstance(item, LoadedInstance):
                return item
            if not isinstance(item, Progress):
                raise operation.wrong(item, "Progress or a LoadedInstance")
            # An error of the caller's own must not look like one of the provider.
            if on_progress is not None and (problem := _raised(on_progress, item)):
                break
        else:
            raise operation.wrong(None, "a LoadedInstance")
    raise problem


def _raised(call: Callable[[Progress], object], report: Progress) -> Exception | None:
    try:
        call(report)
    except Exception as exc:  # noqa: BLE001 - raised again, outside of the provider's responsibility
        return exc
    return None


def completion(
    connection: Connection, info: ProviderInfo, request: CompleteRequest
) -> tuple[CompleteRequest, tuple[str, ...]]:
    """Return ``request`` as the provider can honour it, and a note for each option that was left out.

    Raises:
        InvalidRequest: an option is out of range.
        UnsupportedFeature: as for a conversation, by the connection's ``on_unsupported``.
    """
    chat = Request(
        model=request.model,
        messages=(Message.user(request.prompt),),
        options=request.options,
        on_unsupported=connection.on_unsupported,
    )
    explicit = request.options.explicit()
    try:
        validate_options(explicit, chat.timeouts)
        chat, notes = adapt(chat, info, None, frozenset(), explicit)
    except LMBridgeError as error:
        error.locate(connection.name, connection.provider, connection.secrets)
        raise
    return msgspec.structs.replace(request, options=chat.options), notes


def finished(result: Result, seconds: float, notes: Sequence[str]) -> Result:
    """Return ``result`` with the time that it took, unless the server told, and with ``notes``."""
    stats = result.stats
    if stats.total_seconds is None:
        measured = (*stats.measured, "total_seconds")
        stats = msgspec.structs.replace(stats, total_seconds=seconds, measured=measured)
    return msgspec.structs.replace(result, stats=stats, notes=(*notes, *result.notes))
