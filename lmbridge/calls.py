"""One call of a provider: queue, clocks, retries, checks, statistics, and the end in every phase."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from lmbridge.answers import AUTHOR_ERRORS, Source, blame
from lmbridge.errors import LMBridgeError, PluginError, ProtocolError, redact
from lmbridge.events import (
    Event,
    Finish,
    Progress,
    ReasoningDelta,
    Result,
    Stats,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from lmbridge.folding import unfold
from lmbridge.oddities import oddities
from lmbridge.retries import RETRIES, retry_delay
from lmbridge.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from lmbridge.chat import Request
    from lmbridge.context import Context
    from lmbridge.limits import Limiter
    from lmbridge.runtime import LoopResources
    from lmbridge.settings import Connection
    from lmbridge.turns import Turn

__all__ = ["Call", "Plan"]

_log = logging.getLogger(__name__)

_DELTAS = frozenset({TextDelta, ReasoningDelta})
_OUTPUT = frozenset({TextDelta, ReasoningDelta, ToolCallDelta, ToolResult})


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Plan:
    """A call that is ready to be made.

    Attributes:
        request: as the provider gets it.
        begin: calls the provider's hook with a fresh context and returns what it returns.
        context: makes the context of one attempt.
        limiters: slots to hold while the call runs, taken in this order.
        connection: where the call goes.
        cooperative: the reader's own task may drive the provider.
        notes: adaptations that were made beforehand.
        improve: adds to an error what only the bridge knows (near matches of a model's name).
        loading: told at each report that the server loads a model.
        loaded: told once when it has begun to answer.
    """

    request: Request
    begin: Callable[[Context], Any]
    context: Callable[[], Context]
    limiters: Sequence[Limiter | Turn]
    notes: Sequence[str]
    improve: Callable[[LMBridgeError], Awaitable[None]]
    loading: Callable[[], None]
    loaded: Callable[[], None]
    connection: Connection
    cooperative: bool


class Call:
    """One call, as an async generator of batches of events.

    Whoever steps :meth:`batches` drives the provider: the reader itself, or a task of its own where the
    provider does not promise to let go at once (see :mod:`lmbridge.isolation`).
    """

    __slots__ = (
        "_answered",
        "_base",
        "_begun",
        "_cancelled",
        "_context",
        "_finished",
        "_first",
        "_held",
        "_interruption",
        "_loop",
        "_plan",
        "_spoke",
        "_started",
        "_usage",
        "_watchdog",
        "on_interrupt",
    )

    def __init__(self, plan: Plan, resources: LoopResources) -> None:
        self._plan = plan
        self._loop = loop = resources.loop
        self._context = plan.context()
        self._started = self._begun = loop.time()
        self._first = 0.0
        self._spoke = False
        self._answered = False
        self._finished = False
        self._usage: Usage | None = None
        self._held: list[Limiter | Turn] = []
        self._base = 0
        self._cancelled: asyncio.Task[Any] | None = None
        self._interruption: LMBridgeError | None = None
        self._watchdog = Watchdog(loop, resources.ticker, self._context.timeouts, self.interrupt)
        #: Told of an interruption at once, before the provider has reacted to it.
        self.on_interrupt: Callable[[LMBridgeError], object] | None = None

    @property
    def finished(self) -> bool:
        """Whether the ``Finish`` has come."""
        return self._finished

    def interrupt(self, error: LMBridgeError) -> None:
        """End the call with ``error``: a clock ran out, or the bridge closes. Only the first counts."""
        if self._interruption is not None:
            return
        self._interruption = self._located(error)
        if self.on_interrupt is not None:
            self.on_interrupt(error)
        if (task := self._watchdog.stepping) is not None:
            self._cancelled = task
            task.cancel()

    def leave(self) -> None:
        """The reader is gone: no clock counts any more."""
        self._watchdog.stop()

    def _located(self, error: LMBridgeError) -> LMBridgeError:
        connection = self._plan.connection
        error.locate(connection.name, connection.provider, connection.secrets)
        return error

    # -- driving ---------------------------------------------------------------------------------------

    async def batches(self) -> AsyncGenerator[list[Event], None]:  # noqa: C901 - one generator on purpose
        """Yield what comes, in lists that are never empty; the last one ends with the ``Finish``.

        One generator, because each layer more costs every batch: what happens at which moment is in the
        methods below.

        Raises:
            LMBridgeError: located and redacted, whatever went wrong.
        """
        try:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                await self._settle(task)
            self._step()
            if waiting := self._slots_to_wait_for():
                self._watchdog.stepping = None
                yield [Progress("queued")]
                self._step()
                await self._queue(waiting)
            for attempt in range(RETRIES + 1):
                iterator = None
                try:
                    iterator = self._begin(attempt)
                    async for item in iterator:
                        if batch := self._arrived(item):
                            yield batch
                        if self._finished:
                            return
                        if batch:
                            self._step()
                    raise self._unfinished()
                except LMBridgeError as error:
                    await self._wait_to_retry(error, attempt)
                finally:
                    self._watchdog.pause()
                    await self._close(iterator)
        except asyncio.CancelledError as exc:
            told = self._told(exc)
            raise told from told.__cause__
        except AUTHOR_ERRORS as exc:
            failure = await self._failure(exc)
            raise failure from failure.__cause__
        finally:
            self._watchdog.stop()
            self._take_back()
            self._release()

    async def _settle(self, task: asyncio.Task[Any]) -> None:
        """Meet a cancellation that was asked for while the task ran, as Ctrl-C does at any instruction."""
        await asyncio.sleep(0)
        self._base = task.cancelling()

    def _step(self) -> None:
        """The reader wants more: from here on silence counts, and an interruption has a task to cancel."""
        if self._interruption is not None:
            raise self._interruption
        watchdog = self._watchdog
        watchdog.stepping = asyncio.current_task()
        watchdog.last = self._loop.time()

    def _arrived(self, item: Any) -> list[Event]:
        """Return what the reader gets of an item of the provider, and let the reader have its time."""
        batch = item if type(item) is list else [item]
        if self._answered and len(batch) == 1 and type(batch[0]) is TextDelta:
            self._watchdog.stepping = None  # what most items are while a server generates: nothing to do
            return batch
        self._spoke = True
        self._watchdog.last = self._loop.time()
        batch = self._checked(batch)
        if batch:
            self._watchdog.stepping = None
        return batch

    def _slots_to_wait_for(self) -> list[Limiter | Turn]:
        """Take the slots that are free; return the first one that is not, and all behind it."""
        limiters = list(self._plan.limiters)
        while limiters and limiters[0].try_acquire():
            self._held.append(limiters.pop(0))
        return limiters

    async def _queue(self, limiters: list[Limiter | Turn]) -> None:
        for limiter in limiters:
            await limiter.acquire()
            self._held.append(limiter)

    def _release(self) -> None:
        held, self._held = self._held, []
        for limiter in held:
            limiter.release(self._loop)

    def _begin(self, attempt: int) -> Any:
        """Call the provider and return what iterates over its answer."""
        if attempt:
            self._context = self._plan.context()
        context = self._context
        self._begun = self._loop.time()
        self._watchdog.called(context)
        value = self._plan.begin(context)
        if not hasattr(value, "__anext__"):
            return self._once(value)
        # Without middleware in between the provider's own iterator is read, at its own speed.
        return value.iterator if isinstance(value, Source) else value

    async def _once(self, whole: Any) -> AsyncGenerator[list[Event], None]:
        result = await whole
        if not isinstance(result, Result):
            self._wrong(result, "a Result")
        yield unfold(result)

    def _unfinished(self) -> ProtocolError:
        return ProtocolError(
            f"plugin {self._plan.connection.provider!r} ended its stream without a Finish",
            hint="the answer may be incomplete",
        )

    async def _wait_to_retry(self, error: LMBridgeError, attempt: int) -> None:
        """Return when the request may be sent again; raise ``error`` if that is not safe."""
        if self._interruption is not None:
            raise self._interruption from None  # what the provider makes of being cancelled
        delay = None if self._spoke else retry_delay(error, attempt)
        if delay is None:
            raise error
        self._watchdog.pause()
        await asyncio.sleep(delay)

    async def _close(self, iterator: Any) -> None:
        """Close the outermost iterator, then the provider's own, whatever middleware did with it.

        One that fails to close must not hide why the call ended, nor keep the others open.
        """
        cancelled: asyncio.CancelledError | None = None
        own = (source.iterator for source in self._context.owned if source.iterator is not iterator)
        for item in (iterator, *own):
            close = getattr(item, "aclose", None)
            if close is not None:
                try:
                    await close()
                except asyncio.CancelledError as exc:
                    cancelled = exc
                except AUTHOR_ERRORS as exc:
                    connection = self._plan.connection
                    _log.debug("closing %s: %s", connection.name, redact(repr(exc), connection.secrets))
        if cancelled is not None:
            raise cancelled

    def _take_back(self) -> int:
        """Undo our own cancellation of the task that steps; return how many are left."""
        task, self._cancelled = self._cancelled, None
        if task is not None:
            return task.uncancel()
        task = asyncio.current_task()
        return task.cancelling() if task is not None else 0

    def _told(self, exc: asyncio.CancelledError) -> BaseException:
        """Return what the reader is told of a cancellation: of its own task, by us, or by nobody."""
        if self._watchdog.stepping is None or self._take_back() > self._base:
            return exc
        # By nobody: something that the provider waited for was cancelled, and it let that through.
        return self._interruption or self._located(blame(exc, self._plan.connection.provider))

    async def _failure(self, exc: BaseException) -> BaseException:
        """Return what the reader is told."""
        if isinstance(exc, GeneratorExit) and self._watchdog.stepping is None:
            return exc  # thrown in by a reader that leaves; the LM Studio SDK raises it by itself
        error = self._interruption or blame(exc, self._plan.connection.provider)
        try:
            with suppress(LMBridgeError):
                await self._plan.improve(error)
        except asyncio.CancelledError as cancelled:
            return self._told(cancelled)
        return self._located(error)

    # -- events ----------------------------------------------------------------------------------------

    def _checked(self, events: list[Event]) -> list[Event]:
        """Return what the reader gets of ``events``: all of them, at C speed, while they are deltas."""
        kinds = set(map(type, events))
        if kinds <= _DELTAS:
            if not self._answered and events:
                self._output(TextDelta in kinds)
            return events
        passed: list[Event] = []
        for event in events:
            kind = type(event)
            if kind in _OUTPUT:
                if not self._answered:
                    self._output(kind is not ReasoningDelta)
                passed.append(event)
            elif isinstance(event, Usage):
                self._usage = event  # at most one reaches the reader, right before the end
            elif isinstance(event, Finish):
                passed.extend(self._finish(event))
                break
            elif isinstance(event, Progress):
                if event.phase == "loading model":
                    self._plan.loading()
                passed.append(event)
            else:
                self._wrong(event, "an event")
        return passed

    def _output(self, answered: bool) -> None:
        """Output has come; called until some of it is more than thinking, which alone is no answer."""
        if not self._first:
            self._first = self._watchdog.last
            self._watchdog.answering()
            self._plan.loaded()
        self._answered = answered

    def _wrong(self, value: object, expected: str) -> NoReturn:
        provider, given = self._plan.connection.provider, type(value).__name__
        raise PluginError(f"plugin {provider!r} gave {given} where {expected} was expected")

    # -- the finish ------------------------------------------------------------------------------------

    def _finish(self, finish: Finish) -> list[Event]:
        self._finished = True
        self._watchdog.stop()
        self._release()  # the server is free for the next call while the reader still looks at this one
        odd = oddities(
            finish,
            self._plan.request,
            self._context.model,
            self._usage,
            only_thinking=bool(self._first) and not self._answered,
        )
        notes = dict.fromkeys((*self._plan.notes, *finish.notes, *self._context.notes, *odd))
        final = msgspec.structs.replace(
            finish,
            stats=self._stats(finish.stats),
            notes=tuple(notes),
            options=self._plan.request.options,
        )
        return [final] if self._usage is None else [self._usage, final]

    def _stats(self, stats: Stats) -> Stats:
        now = self._watchdog.last
        figures = {"total_seconds": now - self._started}
        if self._first:
            figures["time_to_first_token"] = self._first - self._begun
            tokens = self._usage.completion_tokens if self._usage else None
            if tokens and now > self._first:
                figures["tokens_per_second"] = tokens / (now - self._first)
        measured = {name: value for name, value in figures.items() if getattr(stats, name) is None}
        return msgspec.structs.replace(stats, **measured, measured=(*stats.measured, *measured))
