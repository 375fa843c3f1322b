"""The emulator as a server in the caller's loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from aiohttp import web

from lmbridge.emulator.address import Addressed
from lmbridge.emulator.app import make_app
from lmbridge.emulator.catalog import DEFAULT_CATALOG, CatalogModel
from lmbridge.emulator.clock import Clock, SystemClock
from lmbridge.emulator.core import Core, ResetPart
from lmbridge.emulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from lmbridge.emulator.gates import Gates
    from lmbridge.emulator.instances import Instance
    from lmbridge.emulator.journal import RequestRecord, Watcher

T = TypeVar("T")


class Emulator(Addressed):
    """A server that behaves as LM Studio, in the running loop.

    ::

        async with Emulator(Settings.instant()) as emulator:
            ...  # talk to emulator.url
            record = await emulator.wait_for(lambda e: e.find("/api/v1/chat"))

    Args:
        settings: behaviour and pace; the defaults are a plain server at a visible pace.
        catalog: its models.
        host: address to listen on.
        port: port to listen on, 0 for a free one.
        clock: time; a `FakeClock` lets a test move it.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        catalog: Iterable[CatalogModel] = DEFAULT_CATALOG,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._core = Core(settings or Settings(), catalog, clock or SystemClock())
        self._host = host
        self._wanted_port = port
        self._port: int | None = None
        self._runner: web.AppRunner | None = None

    # Life

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not ours.
            ValueError: `Settings.loaded` names an unknown model.
        """
        self._core.load_at_start()
        app = make_app(self._core)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self._wanted_port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = int(runner.addresses[0][1])

    async def aclose(self) -> None:
        """Stop all work, close all connections and wait until nothing is left."""
        await self._core.aclose()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Emulator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # Address

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._port is None:
            raise RuntimeError("the emulator has not been started")
        return self._port

    # What a test can do

    @property
    def settings(self) -> Settings:
        """The present settings."""
        return self._core.settings

    def configure(self, **switches: Any) -> None:
        """Change switches while running; requests that have begun keep theirs.

        Raises:
            TypeError: there is no such switch.
            ValueError: it does not take that value.
        """
        self._core.configure(self._core.settings.replace(**switches))

    def advance(self, seconds: float) -> None:
        """Put the clock forward: idle models expire, and what sleeps wakes.

        Raises:
            ValueError: a clock does not go back.
        """
        self._core.advance(seconds)

    def reset(self, *parts: ResetPart) -> None:
        """Set parts of the emulator back to its start; without any, all of it.

        What runs on an instance ends with it. The clock and the identifiers go on.
        """
        self._core.reset(parts or get_args(ResetPart))

    @property
    def gates(self) -> Gates:
        """Where its work can be held."""
        return self._core.gates

    @property
    def clock(self) -> Clock:
        """Its time."""
        return self._core.clock

    @property
    def requests(self) -> list[RequestRecord]:
        """All that it was asked, in order."""
        return list(self._core.journal.records)

    @property
    def last(self) -> RequestRecord:
        """The last request.

        Raises:
            IndexError: there was none.
        """
        return self._core.journal.records[-1]

    def find(self, route: str) -> list[RequestRecord]:
        """Return the requests whose route ends so, as in `/v1/chat/completions` or `predict`."""
        return [record for record in self._core.journal.records if record.route.endswith(route)]

    def forget(self) -> None:
        """Forget all requests so far."""
        self._core.journal.clear()

    @property
    def instances(self) -> list[Instance]:
        """The loaded instances."""
        return self._core.instances.loaded()

    @property
    def loading(self) -> list[str]:
        """The ids of the instances that are being loaded."""
        return [load.identifier for load in self._core.instances.loading]

    def drop_sockets(self) -> None:
        """Reset all websockets, as a restart of the application does."""
        self._core.drop_sockets()

    def unload(self, identifier: str) -> None:
        """Unload an instance, as a user of the application may do at any time.

        Raises:
            EmulatedError: there is no such instance.
        """
        self._core.instances.unload(identifier)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call the watcher at every change of a request or of the instances; what is returned ends that.

        Args:
            watcher: takes the record (None: it was no request) and the phase or state that it came to, or
                an empty string; it runs in the emulator's loop, within the work that it watches.
        """
        return self._core.journal.watch(watcher)

    async def wait_for(self, predicate: Callable[[Emulator], T], timeout: float = 10.0) -> T:  # noqa: ASYNC109
        """Wait until the predicate is true, and return its value; it is asked at every change.

        Raises:
            TimeoutError: it did not become true; the message lists the last requests.
        """
        return await self._core.journal.wait_for(lambda: predicate(self), timeout)


async def serve(
    host: str = "127.0.0.1",
    port: int = 1234,
    settings: Settings | None = None,
    *,
    catalog: Iterable[CatalogModel] = DEFAULT_CATALOG,
    on_ready: Callable[[Emulator], None] | None = None,
) -> None:
    """Run an emulator until the calling task is cancelled.

    Args:
        host: address to listen on.
        port: port to listen on, 0 for a free one.
        settings: its behaviour.
        catalog: its models.
        on_ready: called once it listens.

    Raises:
        OSError: the address is taken or not ours.
    """
    async with Emulator(settings, catalog=catalog, host=host, port=port) as emulator:
        if on_ready is not None:
            on_ready(emulator)
        await asyncio.Event().wait()
