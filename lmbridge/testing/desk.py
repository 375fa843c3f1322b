"""What a fault server is told to do, and what it has seen. Shared by its thread and everybody else's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from lmbridge.testing.record import Asked
from lmbridge.testing.replies import Reply
from lmbridge.testing.waiting import Waiting

if TYPE_CHECKING:
    from lmbridge.testing.faults import Fault

__all__ = ["Answer", "Desk"]

#: A reply, or a function that makes one of the request.
Answer: TypeAlias = Reply | Callable[[Asked], Reply]


class Desk:
    """The state of one server.

    Attributes:
        upstream: address of the server that answers what has no reply of its own, without a slash at the end.
        fault: what is to go wrong now.
        block_size: most bytes of a body that are sent at once; ``None``: as they come.
        requests: what was asked, oldest first.
        open: connections that are open.
        accepted: connections that have ever been open.
        hanging: answers that hang because of a fault.
        hung: how often one has begun to hang.
        errors: what scripts have raised.
    """

    def __init__(self, upstream: str | None) -> None:
        self.upstream = upstream.rstrip("/") if upstream else None
        self.fault: Fault | None = None
        self.block_size: int | None = None
        self.requests: list[Asked] = []
        self.open = 0
        self.accepted = 0
        self.hanging: set[asyncio.Future[None]] = set()
        self.hung = 0
        self.errors: list[BaseException] = []
        self.waiting = Waiting()
        self._lock = threading.Lock()
        self._routes: list[tuple[str, list[Answer]]] = []

    def on(self, route: str, answers: tuple[Answer, ...]) -> None:
        """Answer requests of ``route`` so; the newest route that fits counts."""
        with self._lock:
            self._routes.insert(0, (route, list(answers)))

    def reply(self, asked: Asked) -> Reply | None:
        """Return the answer to a request, or ``None`` if there is none."""
        with self._lock:
            for route, answers in self._routes:
                if fnmatchcase(asked.route, route):
                    answer = answers.pop(0) if len(answers) > 1 else answers[0]
                    break
            else:
                return None
        return answer if isinstance(answer, Reply) else answer(asked)

    def fault_for(self, asked: Asked) -> Fault | None:
        """Return what is to go wrong with this request."""
        fault = self.fault
        return fault if fault is not None and fault.concerns(asked.route) else None

    def took(self, asked: Asked) -> None:
        """Record a request."""
        self.requests.append(asked)
        self.waiting.changed()

    def connected(self, by: int) -> None:
        """Count a connection that opens (1) or closes (-1)."""
        self.open += by
        self.accepted += by > 0
        self.waiting.changed()

    async def hang(self) -> None:
        """Wait for :meth:`release`; to be called on the server's loop, as that is."""
        future = asyncio.get_running_loop().create_future()
        self.hanging.add(future)
        self.hung += 1
        self.waiting.changed()
        try:
            await future
        finally:
            self.hanging.discard(future)
            self.waiting.changed()

    def release(self) -> None:
        """Let go on what hangs."""
        for future in list(self.hanging):
            if not future.done():
                future.set_result(None)

    def describe(self) -> str:
        """Return how things stand, in one sentence, for the message of a wait in vain."""
        last = [
            f"{item.route} ({'answered' if item.answered else 'left' if item.left else 'open'})"
            for item in self.requests[-5:]
        ]
        return (
            f"the server has seen {len(self.requests)} requests, the last: {', '.join(last) or 'none'}; "
            f"{self.open} connections are open, {len(self.hanging)} answers hang"
        )
