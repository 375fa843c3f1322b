"""The bridge: the typed face of everything. Nothing else calls a hook."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from lmbridge.asking import Operation, completion, finished, limited, load
from lmbridge.catalog import Listing
from lmbridge.chat import Timeouts
from lmbridge.errors import Cancelled, LMBridgeError, ModelLoadFailed
from lmbridge.folding import Fold
from lmbridge.ledger import ledger
from lmbridge.listings import LISTING_SECONDS, Catalogue
from lmbridge.operations import Health, LoadRequest, UnloadRequest
from lmbridge.planning import Planner
from lmbridge.plugins import Plugins
from lmbridge.presets import PRESETS
from lmbridge.releasing import RELEASE_SECONDS, release
from lmbridge.runtime import LoopResources, close_elsewhere
from lmbridge.settings import Settings
from lmbridge.streams import Running, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from lmbridge.calls import Plan
    from lmbridge.catalog import LoadedInstance, Model, ProviderInfo
    from lmbridge.chat import Options, Request
    from lmbridge.events import Event, Progress, Result
    from lmbridge.operations import (
        CompleteRequest,
        CountRequest,
        DownloadRequest,
        DownloadStatus,
        Embeddings,
        EmbedRequest,
    )
    from lmbridge.settings import Connection

__all__ = ["Bridge"]


class Bridge:
    """Every connection of the environment, behind one interface.

    One bridge serves any number of loops and threads; what it keeps open belongs to the loop that called.
    Used as ``async with``, it closes everything on leaving; else call :meth:`close`.

    Args:
        connections: settings of connections by name; they win over those of the environment.
        settings: settings that were loaded elsewhere; then ``connections`` is not looked at.
        plugins: plugins that were found elsewhere.
    """

    def __init__(
        self,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        settings: Settings | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._explicit = connections
        self._settings = settings
        self._plugins = plugins
        self._opening = threading.Lock()
        self._resolved: dict[str, tuple[Connection, ProviderInfo]] = {}
        self._catalogue = Catalogue(self._ask_for_models)
        self._planner: Planner | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LoopResources] = {}
        self._loops_lock = threading.Lock()

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # -- what there is ---------------------------------------------------------------------------------

    async def settings(self) -> Settings:
        """Return the settings that the bridge works with, read at the first use."""
        return (await self._ready())[0]

    async def plugins(self) -> Plugins:
        """Return the plugins that the bridge works with, found at the first use."""
        return (await self._ready())[1]

    async def connections(self) -> tuple[str, ...]:
        """Return the names of all enabled connections, whether or not their servers answer."""
        return (await self.settings()).names()

    async def presets(self) -> dict[str, Options]:
        """Return all presets by name: ours, and what middleware plugins add."""
        await self._ready()
        return self._presets()

    def _presets(self) -> dict[str, Options]:
        return {**cast("Plugins", self._plugins).presets(), **PRESETS}

    def _open(self) -> tuple[Settings, Plugins]:
        with self._opening:
            settings = self._settings
            if settings is None:
                explicit = {"connections": self._explicit} if self._explicit else None
                settings = Settings.load(explicit=explicit)
            if self._plugins is None:
                self._plugins = Plugins(environ=settings.plugin_variables)
            if self._settings is None:
                self._settings = settings.with_providers(self._plugins.providers)
            if self._planner is None:
                self._planner = Planner(self._plugins, self._catalogue, self._presets)
            return self._settings, self._plugins

    async def _ready(self) -> tuple[Settings, Plugins]:
        if self._settings is not None and self._plugins is not None:
            return self._settings, self._plugins
        return await asyncio.to_thread(self._open)  # reads files and imports pydantic

    def _resolve_blocking(self, name: str) -> tuple[Connection, ProviderInfo]:
        settings, plugins = self._open()
        info = plugins.info(settings.provider_of(name))
        connection = settings.resolve(name, info)
        plugins.open(name, connection.provider)
        self._resolved[name] = connection, info
        return connection, info

    async def _resolve(self, name: str) -> tuple[Connection, ProviderInfo]:
        known = self._resolved.get(name)
        if known is not None:
            return known
        try:
            return await asyncio.to_thread(self._resolve_blocking, name)
        except LMBridgeError as error:
            error.connection = error.connection or name
            raise

    # -- calls -----------------------------------------------------------------------------------------

    async def generate(self, connection: str, request: Request) -> Result:
        """Return the whole answer.

        Cancelling the awaiting task stops the server.

        Args:
            connection: name of the connection.
            request: what to ask.

        Raises:
            LMBridgeError: see :mod:`lmbridge.errors`; ``UnsupportedFeature``, ``InvalidRequest`` and
                ``UnknownConnection`` before anything is sent.
        """
        answer = Fold()
        here = self._here()
        async with Running(self._prepare(connection, request, here, whole=True), here) as batches:
            async for batch in batches:
                for event in batch:
                    answer.add(event)
        return answer.result()

    def stream(self, connection: str, request: Request) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Open a stream of events: ``async with bridge.stream(…) as events: async for event in events``.

        The call begins with the first step of the iterator. Leaving the block, in whatever way and phase,
        stops the server and takes at most 250 ms.

        Args:
            connection: name of the connection.
            request: what to ask.

        Raises:
            LMBridgeError: on entering, for what is refused before anything is sent; from the iterator,
                for everything later. Events that came before the error are delivered first.
        """
        here = self._here()
        return Stream(self._prepare(connection, request, here, whole=False), here)

    def stream_batches(
        self, connection: str, request: Request
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Event]]]:
        """Open a stream as :meth:`stream` does, with lists of all events that have arrived.

        For callers on other threads, who pay for each step.
        """
        here = self._here()
        return Running(self._prepare(connection, request, here, whole=False), here)

    def _prepare(
        self, name: str, request: Request, here: LoopResources, *, whole: bool
    ) -> Callable[[], Awaitable[Plan]]:
        async def prepare() -> Plan:
            connection, info = await self._resolve(name)
            planner = cast("Planner", self._planner)
            try:
                return await planner.plan(connection, info, request, here, whole=whole)
            except LMBridgeError as error:
                error.locate(name, connection.provider, connection.secrets)
                raise

        return prepare

    # -- models ----------------------------------------------------------------------------------------

    async def list_models(self, *connections: str, timeout: float = LISTING_SECONDS) -> Listing:  # noqa: ASYNC109
        """Ask several connections at once what they offer.

        Args:
            connections: names; none means all.
            timeout: seconds for each connection.

        Returns:
            the models of those that answered, and the errors of the others.
        """
        names = connections or await self.connections()
        found: list[Model] = []
        errors: dict[str, LMBridgeError] = {}

        async def ask(name: str) -> tuple[Model, ...] | LMBridgeError:
            try:
                return await self._catalogue.list((await self._resolve(name))[0], timeout)
            except LMBridgeError as error:
                return error

        for name, answer in zip(names, await asyncio.gather(*map(ask, names)), strict=True):
            if isinstance(answer, LMBridgeError):
                errors[name] = answer
            else:
                found.extend(answer)
        return Listing(tuple(found), errors)

    async def load_model(
        self,
        connection: str,
        request: LoadRequest | str,
        *,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> LoadedInstance:
        """Load a model, or find it loaded already, and return the copy.

        Args:
            connection: name of the connection.
            request: what to load; a string is the model's name.
            on_progress: called with each report, in the loop's thread.

        Raises:
            ModelLoadFailed: the server could not.
            TimedOut: it was silent for longer than the connection's first-event clock.
            LMBridgeError: see :mod:`lmbridge.errors`.
        """
        wanted = LoadRequest(model=request) if isinstance(request, str) else request
        resolved, _ = await self._resolve(connection)
        self._catalogue.forget(resolved.identity)
        call = object()

        def report(progress: Progress) -> None:
            ledger().began(resolved, wanted.model, call)  # one that is there already has no report
            if on_progress is not None:
                on_progress(progress)

        try:
            instance = await load(self._operation(resolved), wanted, report)
        except ModelLoadFailed:
            ledger().failed(resolved, wanted.model)
            raise
        finally:
            self._catalogue.forget(resolved.identity)
        ledger().arrived(resolved, wanted.model)
        return instance

    async def unload_model(self, connection: str, request: UnloadRequest | str) -> tuple[str, ...]:
        """Unload a copy, or all copies of a model; return their ids once the server has confirmed."""
        wanted = UnloadRequest(model=request) if isinstance(request, str) else request
        resolved, _ = await self._resolve(connection)
        try:
            ids = tuple(await self._ask("unload_model", resolved, wanted))
        finally:
            self._catalogue.forget(resolved.identity)
        ledger().gone(resolved, (wanted.model, *ids))
        return ids

    async def release(
        self,
        connection: str,
        model: str | None = None,
        *,
        timeout: float = RELEASE_SECONDS,  # noqa: ASYNC109
        newest: int | None = None,
    ) -> tuple[str, ...]:
        """Unload what this process had the server load; return the copies' ids once it has confirmed.

        Args:
            connection: name of the connection.
            model: only this one; default all.
            timeout: seconds to wait for loads that are still under way, to undo them.
            newest: only loads up to this number (:attr:`lmbridge.ledger.Ledger.newest`).
        """
        resolved, _ = await self._resolve(connection)
        listing = partial(self._catalogue.list, resolved, LISTING_SECONDS)
        unload = partial(self.unload_model, connection)
        return await release(resolved, model, listing, unload, seconds=timeout, newest=newest)

    async def download_model(self, connection: str, request: DownloadRequest) -> DownloadStatus:
        """Start a download onto the server, or ask how far it is."""
        resolved, _ = await self._resolve(connection)
        return cast("DownloadStatus", await self._ask("download_model", resolved, request))

    async def embed(self, connection: str, request: EmbedRequest) -> Embeddings:
        """Turn texts into vectors."""
        return cast("Embeddings", await self._limited("embed", connection, request))

    async def complete(self, connection: str, request: CompleteRequest) -> Result:
        """Continue a text as it stands, without a chat template.

        Raises:
            InvalidRequest: an option is out of range.
            UnsupportedFeature: the provider cannot honour an option, and the connection does not say
                ``on_unsupported="adapt"``; then it is left out with a note.
            LMBridgeError: see :mod:`lmbridge.errors`.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        resolved, info = await self._resolve(connection)
        request, notes = completion(resolved, info, request)
        result = await self._limited("complete", connection, request)
        return finished(result, loop.time() - started, notes)

    async def count_tokens(self, connection: str, request: CountRequest) -> int:
        """Count tokens as the model does."""
        return cast("int", await self._limited("count_tokens", connection, request))

    async def health(self, connection: str, *, timeout: float = LISTING_SECONDS) -> Health:  # noqa: ASYNC109
        """Ask whether the right kind of server answers; an absent one is ``ok=False``, no error."""
        resolved, _ = await self._resolve(connection)
        try:
            return cast("Health", await self._ask("health", resolved, seconds=timeout))
        except Cancelled:
            raise
        except LMBridgeError as error:
            return Health(ok=False, detail=error.message)

    async def _limited(self, hook: str, name: str, request: Any) -> Any:
        connection, info = await self._resolve(name)
        if request.model is None and connection.model:
            request = msgspec.structs.replace(request, model=connection.model)
        places = cast("Planner", self._planner).places(connection, info, request.model)
        return await limited(self._operation(connection), places, hook, request)

    async def _ask_for_models(self, connection: Connection, seconds: float) -> Sequence[Model]:
        models = cast("Sequence[Model]", await self._ask("list_models", connection, seconds=seconds))
        ledger().reconcile(connection, models)
        return models

    async def _ask(
        self, hook: str, connection: Connection, request: Any = None, *, seconds: float | None = None
    ) -> Any:
        """Call a hook that answers once, within ``seconds`` (default: the connection's own clocks)."""
        clocks = connection.timeouts
        if seconds is not None:
            clocks = Timeouts(connect=clocks.connect, first_event=0.0, idle=0.0, total=seconds)
        async with self._operation(connection, clocks) as operation:
            return await operation.answer(hook, request)

    def _operation(self, connection: Connection, clocks: Timeouts | None = None) -> Operation:
        plugins = cast("Plugins", self._plugins)
        return Operation(plugins, connection, self._here(), clocks or connection.timeouts)

    def _here(self) -> LoopResources:
        loop = asyncio.get_running_loop()
        with self._loops_lock:
            resources = self._loops.get(loop)
            if resources is None or resources.closed:
                for gone in [other for other in self._loops if other.is_closed()]:
                    del self._loops[gone]
                resources = self._loops[loop] = LoopResources(loop)
                resources.close_with_loop()
            return resources

    async def close(self) -> None:
        """End what is under way and close every client, on this loop and on all others that still run.

        The bridge may be used again afterwards.
        """
        with self._loops_lock:
            loops, self._loops = self._loops, {}
        here = asyncio.get_running_loop()
        await asyncio.gather(
            *(
                resources.close() if loop is here else close_elsewhere(resources)
                for loop, resources in loops.items()
                if loop is here or resources.reachable
            )
        )
