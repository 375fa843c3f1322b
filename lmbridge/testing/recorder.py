"""Middleware that sees what a provider really yields, and that leaves it where it yields."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lmbridge.events import Finish, TextDelta
from lmbridge.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from lmbridge.chat import Request
    from lmbridge.context import Context

__all__ = ["Pause", "Recorder"]


class Recorder:
    """Records the events of every stream.

    Attributes:
        events: everything that the provider yielded.
        ended: the provider's iterator came to its end without an error.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ended = False

    @hookimpl(wrapper=True)
    def stream(self, request: Request, context: Context) -> Generator[None, Any, AsyncIterator[Any]]:
        """Wrap the provider's stream."""
        del request, context
        events = yield
        return self._recorded(events)

    async def _recorded(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        finish = None
        async for event in events:
            self.events.append(event)
            if finish is None and isinstance(event, Finish):
                finish = event  # held back: whoever reads it stops reading
            elif finish is None:
                yield event
        self.ended = True
        if finish is not None:
            yield finish


class Pause:
    """Passes on the beginning of the answer, and asks for no more: the provider stands at its ``yield``.

    Args:
        after: the text up to which it passes everything on.

    Attributes:
        armed: it does so from now on.
    """

    def __init__(self, after: str) -> None:
        self._after = after
        self.armed = False

    @hookimpl(wrapper=True)
    def stream(self, request: Request, context: Context) -> Generator[None, Any, AsyncIterator[Any]]:
        """Wrap the provider's stream."""
        del request, context
        events = yield
        return self._paused(events)

    async def _paused(self, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        text = ""
        async for event in events:
            yield event
            text += event.text if isinstance(event, TextDelta) else ""
            if self.armed and self._after in text:
                await asyncio.Event().wait()
