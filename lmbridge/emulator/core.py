"""What all routes of one emulator share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lmbridge.emulator import engine_errors, errors
from lmbridge.emulator.aio import Tasks, end_tasks
from lmbridge.emulator.chats import Chats
from lmbridge.emulator.downloads import Downloads
from lmbridge.emulator.files import Files
from lmbridge.emulator.gates import Gates
from lmbridge.emulator.ids import Ids
from lmbridge.emulator.instances import Instances
from lmbridge.emulator.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.settings import Settings


ResetPart = Literal["switches", "gates", "instances", "downloads", "chats", "requests"]
"""What can be set back to the start."""


class Closable(Protocol):
    """An open websocket."""

    async def close(self) -> None:
        """Close it in good order."""
        ...

    def drop(self) -> None:
        """Reset its connection."""
        ...


class Core:
    """The emulated machine.

    Args:
        settings: may be replaced at any time.
        catalog: the models.
        clock: time.
    """

    def __init__(self, settings: Settings, catalog: Iterable[CatalogModel], clock: Clock) -> None:
        self._at_start = settings
        self._catalog_at_start = tuple(catalog)
        self.settings = settings
        self.tokens = settings.api_tokens()
        self.clock = clock
        self.gates = Gates()
        self.journal = Journal(settings.journal_limit, settings.journal_bytes)
        self.tasks = Tasks()
        self.ids = Ids()
        self.chats = Chats(self.ids)
        self.files = Files()
        self.instances = Instances(
            list(self._catalog_at_start),
            settings=lambda: self.settings,
            clock=clock,
            gates=self.gates,
            tasks=self.tasks,
            on_change=self.journal.pulse,
        )
        self.downloads = Downloads(
            self.instances.catalog,
            settings=lambda: self.settings,
            clock=clock,
            gates=self.gates,
            tasks=self.tasks,
            ids=self.ids,
            on_change=self.journal.pulse,
        )
        self.sockets: set[Closable] = set()
        self.handlers: set[asyncio.Task[Any]] = set()

    def drop_sockets(self) -> None:
        """Reset all websockets."""
        for socket in tuple(self.sockets):
            socket.drop()

    async def aclose(self) -> None:
        """End all work and close all websockets."""
        self.gates.release()
        await asyncio.gather(*(socket.close() for socket in tuple(self.sockets)))
        await end_tasks(self.handlers)
        await self.tasks.aclose()

    def configure(self, settings: Settings) -> None:
        """Change the switches while running; `loaded` takes effect with the next reset.

        Raises:
            ValueError: a token has not the form of one, or `loaded` names an unknown model.
        """
        tokens = settings.api_tokens()
        if settings.loaded != self.settings.loaded:
            self._named_at_start(settings)
        self.tokens, self.settings = tokens, settings
        self.journal.limit(settings.journal_limit, settings.journal_bytes)

    def advance(self, seconds: float) -> None:
        """Put the clock forward and let idle models expire.

        Raises:
            ValueError: a clock does not go back.
        """
        self.clock.advance(seconds)
        self.instances.loaded()

    def reset(self, parts: Iterable[ResetPart]) -> None:
        """Set parts of the emulator back to their start; what runs on an instance ends with it."""
        chosen = set(parts)
        if "switches" in chosen:
            self.configure(self._at_start)
        if "gates" in chosen:
            self.gates.release()
        if "downloads" in chosen:
            self.downloads.clear()
            self.instances.catalog[:] = self._catalog_at_start
        if "instances" in chosen:
            self.instances.clear()
            self.load_at_start()
        if "chats" in chosen:
            self.chats = Chats(self.ids)
        if "requests" in chosen:
            self.journal.clear()

    def load_at_start(self) -> None:
        """Load what the settings name.

        Raises:
            ValueError: a name is not in the catalogue.
        """
        for model in self._named_at_start(self.settings):
            self.instances.add(model)

    def _named_at_start(self, settings: Settings) -> list[CatalogModel]:
        found = []
        for key in settings.loaded:
            model = self.instances.find_model(key)
            if model is None:
                raise ValueError(f"{key!r} is not in the emulator's catalogue")
            found.append(model)
        return found

    def check_vision(self, model: CatalogModel, pictures: int) -> None:
        """Refuse pictures for a model without eyes.

        Raises:
            EmulatedError: there are some, and it does not simply overlook them.
        """
        if pictures and not model.vision and self.settings.blind_model != "ignores":
            refusal = (
                errors.no_vision if self.settings.blind_model == "refuses" else engine_errors.engine_blind
            )
            raise refusal(model.key)
