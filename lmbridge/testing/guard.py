"""Noticing from another thread that an event loop stands still."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lmbridge.testing.checks import check

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Guard"]


class Guard:
    """Asks a loop for a sign of life again and again; as a context manager, around the loop's work.

    Args:
        patience: seconds between two questions, and seconds that an answer may take.
        let_go: called when there was none, to end what the loop waits for.

    Raises:
        AssertionError: on leaving, if the loop once gave no sign.
    """

    def __init__(self, patience: float, let_go: Callable[[], None]) -> None:
        self._patience = patience
        self._let_go = let_go
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = threading.Event()
        self._beat = threading.Event()
        self._stood_still = False
        self._thread = threading.Thread(target=self._main, name="lmbridge guard", daemon=True)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop it is."""
        self._loop = loop

    def _main(self) -> None:
        while not self._over.wait(self._patience):
            self._beat.clear()
            with suppress(RuntimeError):  # it was closed meanwhile
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._beat.set)
                if not self._beat.wait(self._patience) and not self._over.is_set():
                    self._stood_still = True
                    self._let_go()
                    return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._beat.set()
        self._thread.join()
        check(
            not self._stood_still,
            "the event loop stood still while the server kept the provider waiting: something in it blocks; "
            "use asynchronous calls, or asyncio.to_thread",
        )
