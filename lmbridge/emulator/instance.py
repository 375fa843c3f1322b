"""A loaded model."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.emulator.catalog import CatalogModel


class Work(Protocol):
    """Something that runs on an instance and can be told that the instance is gone."""

    def stop(self, reason: str) -> None:
        """End soon."""
        ...


@dataclass(eq=False, slots=True)
class Instance:
    """A loaded model.

    Attributes:
        id: `key`, `key:2`, ... or the client's own name.
        model: the catalogue's entry.
        reference: 24 base64 characters, new for every load.
        config: the load configuration as `/api/v1` shows it.
        fields: the load configuration as the SDK sent it, by its own keys.
        ttl_s: idle time until it is unloaded, None for ever.
        on_request: loaded because a request named it, hence subject to eviction.
        last_used: time of the last use by the emulator's clock.
        running: the predictions that use it, queued ones included.
    """

    id: str
    model: CatalogModel
    reference: str
    config: dict[str, Any]
    ttl_s: float | None
    on_request: bool
    last_used: float
    slots: asyncio.Semaphore
    running: set[Work] = field(default_factory=set)
    busy: int = 0
    """How many predictions hold a slot."""
    status: str = "idle"
    """`idle`, `processingPrompt`, `generating` or `computingEmbedding`."""
    gone: bool = False
    """No longer loaded."""
    fields: dict[str, Any] = field(default_factory=dict)
    eyes: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one prediction that looks at pictures, where the server works so."""

    @property
    def context_length(self) -> int:
        """Context in tokens."""
        return int(self.config["context_length"])

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a piece of work that holds a slot; the last one leaves the instance idle."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            if not self.busy:
                self.status = "idle"
