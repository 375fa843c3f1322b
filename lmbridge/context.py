"""What a hook is given besides the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from lmbridge.catalog import Model
    from lmbridge.chat import Timeouts
    from lmbridge.runtime import LoopResources
    from lmbridge.settings import Connection
    from lmbridge.transport import Pool

__all__ = ["Context"]

_T = TypeVar("_T")


class OwnIterator(Protocol):
    """What stands for an iterator that a provider returned."""

    iterator: Any


class Context:
    """The connection that a call goes through, and what the core keeps for it.

    Attributes:
        connection: address, key and settings.
        timeouts: the clocks of this call, all filled in (0: none). The core enforces first event, idle and
            total; ``connect`` is for the provider to apply to what it opens itself.
        model: what the connection's catalogue says of the requested model, or ``None`` if that is unknown.
    """

    __slots__ = ("_notes", "_resources", "alive_at", "connection", "model", "owned", "timeouts")

    def __init__(
        self, connection: Connection, timeouts: Timeouts, resources: LoopResources, model: Model | None = None
    ) -> None:
        self.connection = connection
        self.timeouts = timeouts
        self.model = model
        self._resources = resources
        self._notes: list[str] = []
        self.alive_at = 0.0
        #: Iterators that providers returned for this call; the core closes them itself, whatever
        #: middleware does with them.
        self.owned: list[OwnIterator] = []

    @property
    def http(self) -> aiohttp.ClientSession:
        """An aiohttp session of the running loop, for what :mod:`lmbridge.http` does not do.

        That is WebSockets, uploads and the like. The core owns it: never close it, never store it.
        """
        return self._resources.session

    @property
    def pool(self) -> Pool:
        """The connections that :mod:`lmbridge.http` keeps open on the running loop."""
        return self._resources.pool

    async def resource(self, key: str, factory: Callable[[], AbstractAsyncContextManager[_T]]) -> _T:
        """Return what ``factory`` opened for this connection on this loop, opening it at the first call.

        It stays open for later calls and is closed with the bridge, or by :meth:`discard`. Two calls at once
        open it once. A provider never keeps a client of its own on ``self``: clients belong to a loop.
        """
        return await self._resources.get((self.connection.identity, key), factory)

    async def discard(self, key: str, value: object | None = None) -> None:
        """Close a resource, so that the next :meth:`resource` opens a new one.

        Args:
            key: as given to :meth:`resource`.
            value: only if it still is this one (another call may have replaced it meanwhile).
        """
        await self._resources.discard((self.connection.identity, key), value)

    def alive(self) -> None:
        """Reset the idle clock: the server said something that is no event (an SSE comment)."""
        self.alive_at = self._resources.loop.time()

    def note(self, text: str) -> None:
        """Add a sentence to ``Finish.notes``."""
        if text not in self._notes:
            self._notes.append(text)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes so far."""
        return tuple(self._notes)
