"""What the connections offer, remembered for a while."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from lmbridge.errors import LMBridgeError, near_matches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from lmbridge.catalog import Model
    from lmbridge.runtime import LoopResources
    from lmbridge.settings import Connection

__all__ = ["LISTING_SECONDS", "Catalogue", "find_model", "loaded_model", "similar"]

LISTING_SECONDS = 5.0
_FRESH_SECONDS = 60.0
_FAILED_SECONDS = 10.0


class Catalogue:
    """The last listing of each connection. A failure is remembered, too, but for a shorter time.

    Safe to use from any thread: entries are replaced, never changed.

    Args:
        ask: asks a connection's server, within so many seconds, and raises only errors of ours.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        ask: Callable[[Connection, float], Awaitable[Sequence[Model]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._entries: dict[Hashable, tuple[float, tuple[Model, ...]]] = {}

    async def known(
        self, connection: Connection, resources: LoopResources, *, ask: bool
    ) -> tuple[Model, ...]:
        """Return what is known of the connection's models, asking the server if need be; empty if nothing."""
        identity = connection.identity
        known = self.recent(identity)
        if known is None and ask:
            async with resources.lock(("listing", identity)):  # several calls at once ask once
                known = self.recent(identity)
                if known is None:
                    with suppress(LMBridgeError):
                        known = await self.list(connection, LISTING_SECONDS)
        return known or ()

    async def list(self, connection: Connection, seconds: float) -> tuple[Model, ...]:
        """Ask the server, remember the answer and return it.

        Raises:
            LMBridgeError: it did not answer, or not well.
        """
        try:
            listed = await self._ask(connection, seconds)
        except LMBridgeError:
            self._put(connection.identity, (), _FAILED_SECONDS)
            raise
        models = tuple(msgspec.structs.replace(model, connection=connection.name) for model in listed)
        self._put(connection.identity, models, _FRESH_SECONDS)
        return models

    def recent(self, key: Hashable) -> tuple[Model, ...] | None:
        """Return the last listing of the connection with this identity, ``None`` if it is too old."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._clock() < entry[0] else None

    def _put(self, key: Hashable, models: tuple[Model, ...], seconds: float) -> None:
        self._entries[key] = (self._clock() + seconds, models)

    def forget(self, key: Hashable) -> None:
        """Ask the server again next time (it has loaded or unloaded something)."""
        self._entries.pop(key, None)


def find_model(models: Sequence[Model], name: str) -> Model | None:
    """Return the model that answers to ``name``; an exact id wins over an alias."""
    exact = next((model for model in models if model.id == name), None)
    return exact or next((model for model in models if model.answers_to(name)), None)


def similar(models: Sequence[Model], name: str) -> tuple[str, ...]:
    """Return ids that come close to ``name``; none if it is there, and only may not be loaded."""
    if find_model(models, name) is not None:
        return ()
    return near_matches(name, [model.id for model in models])


def loaded_model(models: Sequence[Model]) -> Model | None:
    """Return the one to use when nobody names any: the first that is loaded, or the only one there is."""
    chat = [model for model in models if model.kind == "llm"]
    loaded = next((model for model in chat if model.loaded), None)
    return loaded or (chat[0] if len(chat) == 1 else None)
