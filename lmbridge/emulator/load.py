"""A load in progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors
from lmbridge.emulator.aio import Pulse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be loaded, and how.

    Attributes:
        model: the catalogue's entry.
        identifier: the instance's id.
        ttl_s: idle time until it is unloaded, None for ever.
        on_request: whether a request caused it, hence subject to eviction.
        config: parts of the load configuration, by the names of `/api/v1`.
        fields: the same, and what only the SDK has, by the SDK's keys.
    """

    model: CatalogModel
    identifier: str
    ttl_s: float | None = None
    on_request: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


class Load:
    """A load in progress, watched by everybody who asked for it.

    Args:
        wanted: what is loaded.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.progress: list[float] = []
        self.evicted: list[Instance] = []
        self.seconds = 0.0
        self.watchers = 0
        self.task: asyncio.Task[Instance] | None = None
        self._changed = Pulse()

    @property
    def model(self) -> CatalogModel:
        """The catalogue's entry."""
        return self.wanted.model

    @property
    def identifier(self) -> str:
        """The id that the instance will have."""
        return self.wanted.identifier

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.task is not None and not self.task.done()

    def advance(self, fraction: float) -> None:
        """Report progress."""
        self.progress.append(fraction)
        self._changed.send()

    async def watch(self, report: Callable[[float], Awaitable[None]]) -> Instance:
        """Report all progress, from the beginning, and return the instance.

        Raises:
            EmulatedError: the load failed or was cancelled.
        """
        if self.task is None:
            raise RuntimeError("the load has not begun")
        self.task.add_done_callback(lambda _task: self._changed.send())
        seen = 0
        self.watchers += 1
        try:
            while True:
                while seen < len(self.progress):
                    seen += 1
                    await report(self.progress[seen - 1])
                if self.task.done():
                    break
                await self._changed.wait()
        finally:
            self.watchers -= 1
        if self.task.cancelled():
            raise errors.load_cancelled(self.model.key)
        return self.task.result()

    def abort(self) -> None:
        """Stop loading, whoever waits for it."""
        if self.task is not None:
            self.task.cancel()

    def cancel(self) -> None:
        """Stop loading, unless somebody else waits for it too."""
        if self.task is not None and self.watchers <= 1:
            self.task.cancel()
