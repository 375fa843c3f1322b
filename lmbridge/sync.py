"""The bridge for synchronous callers: the same calls, run on the process's one long-lived loop thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lmbridge.bridge import Bridge as _AsyncBridge
from lmbridge.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from lmbridge.catalog import Listing, LoadedInstance
    from lmbridge.chat import Options, Request
    from lmbridge.events import Event, Progress, Result
    from lmbridge.operations import (
        CompleteRequest,
        CountRequest,
        DownloadRequest,
        DownloadStatus,
        Embeddings,
        EmbedRequest,
        Health,
        LoadRequest,
        UnloadRequest,
    )
    from lmbridge.plugins import Plugins
    from lmbridge.settings import Settings

__all__ = ["Bridge"]

_T = TypeVar("_T")


class Bridge:
    """Like :class:`lmbridge.Bridge`, without ``async``. Any thread may call it, also one whose loop is busy.

    Ctrl-C in a call stops the server's work. Arguments and errors are those of the asynchronous bridge.
    """

    def __init__(
        self,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        settings: Settings | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._bridge = _AsyncBridge(connections, settings=settings, plugins=plugins)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return runtime().run(coroutine)

    def close(self) -> None:
        """See :meth:`lmbridge.Bridge.close`."""
        self._run(self._bridge.close())

    def settings(self) -> Settings:
        """See :meth:`lmbridge.Bridge.settings`."""
        return self._run(self._bridge.settings())

    def plugins(self) -> Plugins:
        """See :meth:`lmbridge.Bridge.plugins`."""
        return self._run(self._bridge.plugins())

    def connections(self) -> tuple[str, ...]:
        """See :meth:`lmbridge.Bridge.connections`."""
        return self._run(self._bridge.connections())

    def presets(self) -> dict[str, Options]:
        """See :meth:`lmbridge.Bridge.presets`."""
        return self._run(self._bridge.presets())

    def generate(self, connection: str, request: Request) -> Result:
        """See :meth:`lmbridge.Bridge.generate`."""
        return self._run(self._bridge.generate(connection, request))

    @contextmanager
    def stream(self, connection: str, request: Request) -> Iterator[Iterator[Event]]:
        """Open a stream: ``with bridge.stream(…) as events: for event in events``.

        Another thread may leave the block while one waits in the iterator, which then raises ``Cancelled``.
        """

        async def begin() -> tuple[
            AbstractAsyncContextManager[AsyncIterator[list[Event]]], AsyncIterator[list[Event]]
        ]:
            opened = self._bridge.stream_batches(connection, request)
            return opened, await opened.__aenter__()

        running, batches = self._run(begin())

        async def more() -> list[Event]:
            return await anext(batches, [])

        def events() -> Iterator[Event]:
            while batch := self._run(more()):
                yield from batch

        try:
            yield events()
        finally:
            self._run(running.__aexit__(None, None, None))

    def list_models(self, *connections: str, timeout: float = 5.0) -> Listing:
        """See :meth:`lmbridge.Bridge.list_models`."""
        return self._run(self._bridge.list_models(*connections, timeout=timeout))

    def load_model(
        self,
        connection: str,
        request: LoadRequest | str,
        *,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> LoadedInstance:
        """See :meth:`lmbridge.Bridge.load_model`; ``on_progress`` is called in the runtime's thread."""
        return self._run(self._bridge.load_model(connection, request, on_progress=on_progress))

    def unload_model(self, connection: str, request: UnloadRequest | str) -> tuple[str, ...]:
        """See :meth:`lmbridge.Bridge.unload_model`."""
        return self._run(self._bridge.unload_model(connection, request))

    def release(self, connection: str, model: str | None = None, *, timeout: float = 60.0) -> tuple[str, ...]:
        """See :meth:`lmbridge.Bridge.release`."""
        return self._run(self._bridge.release(connection, model, timeout=timeout))

    def download_model(self, connection: str, request: DownloadRequest) -> DownloadStatus:
        """See :meth:`lmbridge.Bridge.download_model`."""
        return self._run(self._bridge.download_model(connection, request))

    def embed(self, connection: str, request: EmbedRequest) -> Embeddings:
        """See :meth:`lmbridge.Bridge.embed`."""
        return self._run(self._bridge.embed(connection, request))

    def complete(self, connection: str, request: CompleteRequest) -> Result:
        """See :meth:`lmbridge.Bridge.complete`."""
        return self._run(self._bridge.complete(connection, request))

    def count_tokens(self, connection: str, request: CountRequest) -> int:
        """See :meth:`lmbridge.Bridge.count_tokens`."""
        return self._run(self._bridge.count_tokens(connection, request))

    def health(self, connection: str, *, timeout: float = 5.0) -> Health:
        """See :meth:`lmbridge.Bridge.health`."""
        return self._run(self._bridge.health(connection, timeout=timeout))
