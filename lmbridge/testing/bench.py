"""One test's server, and bridges to it that know nothing but the provider under test."""

from __future__ import annotations

import asyncio
import itertools
import sys
import types
from typing import TYPE_CHECKING, Any, TypeVar

from lmbridge.bridge import Bridge
from lmbridge.discovery import MIDDLEWARE_GROUP, PROVIDER_GROUP, Found
from lmbridge.folding import Fold
from lmbridge.plugins import Plugins
from lmbridge.settings import Settings
from lmbridge.testing.guard import Guard
from lmbridge.testing.remains import Remains, in_new_loop
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmbridge.chat import Request
    from lmbridge.events import Event
    from lmbridge.testing.conformance.base import Base
    from lmbridge.testing.record import Asked
    from lmbridge.testing.server import FaultServer
    from lmbridge.testing.turns import Turn

__all__ = ["CONNECTION", "Bench", "found"]

_T = TypeVar("_T")

#: Name of the connection to the server.
CONNECTION = "kit"
_numbers = itertools.count()


def found(group: str, name: str, value: Any) -> Found:
    """Return an entry point that names ``value``, which need not be importable by its own name."""
    module = types.ModuleType(f"lmbridge_testing_plugin_{next(_numbers)}")
    module.plugin = value  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return Found(group, name, f"{module.__name__}:plugin", "lmbridge.testing", "0")


class Bench:
    """What a test of the kit works with.

    Attributes:
        kit: the author's class, as an instance.
        server: what the provider talks to.
        remains: what :meth:`run` found left behind.
    """

    def __init__(self, kit: Base, server: FaultServer) -> None:
        self.kit = kit
        self.server = server
        self.remains = Remains(kit.sdks)

    def bridge(self, *, middleware: Any = None, **more: dict[str, Any]) -> Bridge:
        """Return a bridge with the connection to the server, and ``more`` connections by name."""
        kit = self.kit
        name = kit.name or "provider"
        plugins = [found(PROVIDER_GROUP, name, kit.provider)]
        if middleware is not None:
            plugins.append(found(MIDDLEWARE_GROUP, "recorder", middleware))
        known = Plugins(plugins, environ={})
        own: dict[str, Any] = {
            "provider": name,
            "base_url": self.server.url,
            "api_key": kit.api_key,
            "max_concurrency": 4,
            **kit.settings,
        }
        connections = {CONNECTION: own, **{key: own | value for key, value in more.items()}}
        settings = Settings.load(
            explicit={"connections": connections},
            environ={},
            env_file=None,
            config_file=None,
            providers=known.providers,
        )
        return Bridge(settings=settings, plugins=known)

    def run(
        self, work: Callable[[Bridge], Awaitable[_T]], *, bridge: Bridge | None = None, watched: bool = False
    ) -> _T:
        """Run ``work`` on a loop of its own, with a bridge that is closed afterwards.

        Args:
            work: gets the bridge.
            bridge: one that was made before.
            watched: note in :attr:`remains` what is left behind.
        """
        opened = bridge or self.bridge()
        guard = Guard(self.kit.patience, self.server.give_up)

        async def main() -> _T:
            guard.watch(asyncio.get_running_loop())
            async with opened:
                return await self._bounded(work(opened))

        with guard:
            return in_new_loop(main, self.remains if watched else None)

    async def _bounded(self, work: Awaitable[_T]) -> _T:
        """Await ``work``, but for no longer than any two waits in it may take."""
        seconds = 2 * self.kit.patience
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError as exc:
            if type(exc) is not TimeoutError:
                raise  # a clock of the bridge
            sentence = f"the call was not over after {seconds:g} s; {str(exc) or self.server.describe()}"
            raise AssertionError(sentence) from exc

    def answers(self) -> tuple[Asked, ...]:
        """Return the requests for answers that the server has seen."""
        return self.server.find(self.kit.answer_route)

    async def warm_up(self, bridge: Bridge) -> None:
        """Let the bridge learn what it asks only once, so that only answers meet the faults to come.

        A socket that stays for all calls is opened, too.
        """
        await bridge.list_models(CONNECTION)
        if self.kit.websocket:
            await bridge.generate(CONNECTION, self.expect(TALK))

    def expect(self, turn: Turn) -> Request:
        """Have the server answer with ``turn``, and return the request that asks for it."""
        self.kit.script(self.server, turn)
        return self.kit.request(turn)


async def collect(bridge: Bridge, request: Request, connection: str = CONNECTION) -> list[Event]:
    """Return all events of a stream."""
    async with bridge.stream(connection, request) as events:
        return [event async for event in events]


def folded(events: list[Event]) -> Fold:
    """Return the fold of events."""
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold
