"""What all routes of one emulator share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from lmbridge.emulator import errors
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
            list(catalog),
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
        """Change the switches while running."""
        self.tokens = settings.api_tokens()
        self.settings = settings

    def load_at_start(self) -> None:
        """Load what the settings name.

        Raises:
            ValueError: a name is not in the catalogue.
        """
        for key in self.settings.loaded:
            model = self.instances.find_model(key)
            if model is None:
                raise ValueError(f"{key!r} is not in the emulator's catalogue")
            self.instances.add(model)

    def check_vision(self, model: CatalogModel, pictures: int) -> None:
        """Refuse pictures for a model without eyes."""
        if pictures and not model.vision:
            raise errors.no_vision(model.key)
