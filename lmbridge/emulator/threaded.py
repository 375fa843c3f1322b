"""The emulator in a thread of its own, for synchronous callers and for a second event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from lmbridge.emulator.address import Addressed
from lmbridge.emulator.catalog import DEFAULT_CATALOG, CatalogModel
from lmbridge.emulator.server import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.core import ResetPart
    from lmbridge.emulator.gates import Gate, Phase
    from lmbridge.emulator.journal import RequestRecord
    from lmbridge.emulator.settings import Settings

T = TypeVar("T")


class ThreadedEmulator(Addressed):
    """An `Emulator` whose loop runs in a daemon thread; all methods may be called from any other thread.

    ::

        with ThreadedEmulator(Settings.instant()) as emulator:
            ...  # talk to emulator.url with a synchronous client
            emulator.wait_for(lambda e: e.last.finished)

    Args:
        settings: as for `Emulator`.
        catalog: as for `Emulator`.
        host: as for `Emulator`.
        port: as for `Emulator`.
        clock: as for `Emulator`.
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
        self.emulator = Emulator(settings, catalog=catalog, host=host, port=port, clock=clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> None:
        """Start the thread and wait until the server listens.

        Raises:
            OSError: the address is taken or not ours.
            ValueError: `Settings.loaded` names an unknown model.
        """
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(ready)), name="lmbridge-emulator", daemon=True
        )
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._thread.join()
            raise

    async def _main(self, ready: concurrent.futures.Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self.emulator.start()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            await self._stop.wait()
        finally:
            await self.emulator.aclose()

    def close(self) -> None:
        """Stop the server and wait for the end of its thread."""
        if self._thread is None or not self._thread.is_alive():
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> ThreadedEmulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self.emulator.host

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.emulator.port

    def call(self, function: Callable[[Emulator], T]) -> T:
        """Run a function in the emulator's loop and return its value."""

        async def run() -> T:
            return function(self.emulator)

        return self._run(run())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the emulator has not been started")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def advance(self, seconds: float) -> None:
        """Put the clock forward; see `Emulator.advance`."""
        self.call(lambda emulator: emulator.advance(seconds))

    def reset(self, *parts: ResetPart) -> None:
        """Set parts of the emulator back to its start; see `Emulator.reset`."""
        self.call(lambda emulator: emulator.reset(*parts))

    def configure(self, **switches: Any) -> None:
        """Change switches while running."""
        self.call(lambda emulator: emulator.configure(**switches))

    @property
    def requests(self) -> list[RequestRecord]:
        """All that it was asked, in order."""
        return self.call(lambda emulator: emulator.requests)

    @property
    def last(self) -> RequestRecord:
        """The last request."""
        return self.call(lambda emulator: emulator.last)

    def find(self, route: str) -> list[RequestRecord]:
        """Return the requests whose route ends so."""
        return self.call(lambda emulator: emulator.find(route))

    def hold(self, phase: Phase, *, after: int = 0, model: str | None = None) -> Gate:
        """Close a phase; see `Gates.hold`. Release it with `release`, not by the gate itself."""
        return self.call(lambda emulator: emulator.gates.hold(phase, after=after, model=model))

    def reached(self, gate: Gate, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until so much work has come to the gate."""
        self._run(gate.reached(count, timeout))

    def release(self, phase: Phase | None = None) -> None:
        """Open the gates of one phase, or all."""
        self.call(lambda emulator: emulator.gates.release(phase))

    def wait_for(self, predicate: Callable[[Emulator], T], timeout: float = 10.0) -> T:
        """Wait until the predicate is true; it runs in the emulator's thread."""
        return self._run(self.emulator.wait_for(predicate, timeout))
