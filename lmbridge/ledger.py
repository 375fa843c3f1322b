"""What this process had servers load, so that exactly that can be unloaded again.

A model is ours if a server reported, while it worked on a request of this process, that it loads it. What was
loaded before, or by somebody else, is never ours. Two processes that wait for the same load both take it for
theirs: servers do not say for whom they load. One that was unloaded behind our back and loaded again by
somebody else is taken for ours until the server's list has been seen without it.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from lmbridge.catalog import Model
    from lmbridge.settings import Connection

__all__ = ["Ledger", "Loaded", "ledger"]

#: A load that is not seen to end in this time has failed, or the server has forgotten it.
_LOADING_SECONDS = 900.0
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class Loaded(NamedTuple):
    """A model of which this process began a load.

    Attributes:
        connection: name of the connection that it was loaded by.
        model: the name that was asked for.
        loading: the server has not been seen to have it yet.
        number: of the load, in the order in which they began.
    """

    connection: str
    model: str
    loading: bool
    number: int


class _Entry:
    __slots__ = ("began", "by", "connection", "loading", "model", "number")

    def __init__(self, connection: str, model: str, by: object, began: float, number: int) -> None:
        self.connection = connection
        self.model = model
        self.by = by
        self.began = began
        self.number = number
        self.loading = True


class Ledger:
    """The models that this process had servers load. All methods may be called from any thread.

    Connections to the same server share its models, whichever interface they use.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Hashable, dict[str, _Entry]] = {}
        self._newest = 0

    def began(self, connection: Connection, model: str, by: object = None) -> None:
        """A request of ours makes the server load ``model``, or waits for its load.

        Args:
            connection: to the server.
            model: as the request names it.
            by: the request; what it reports again is the same load.
        """
        with self._lock:
            here = self._entries.setdefault(_place(connection), {})
            entry = here.get(model)
            if entry is None or not entry.loading or entry.by is not by:
                self._newest += 1
                here[model] = _Entry(connection.name, model, by, self._clock(), self._newest)

    @property
    def newest(self) -> int:
        """Number of the load that began last; 0: none has."""
        return self._newest

    def arrived(self, connection: Connection, model: str) -> None:
        """The server has ``model`` in its memory: it works with it."""
        with self._lock:
            entry = self._entries.get(_place(connection), {}).get(model)
            if entry is not None:
                entry.loading = False

    def failed(self, connection: Connection, model: str) -> None:
        """The load of ``model`` came to nothing."""
        with self._lock:
            here = self._entries.get(_place(connection), {})
            if model in here and here[model].loading:
                del here[model]

    def gone(self, connection: Connection, names: Iterable[str]) -> None:
        """The server has unloaded these models or copies."""
        with self._lock:
            here = self._entries.get(_place(connection), {})
            for name in names:
                here.pop(name, None)

    def reconcile(self, connection: Connection, models: Sequence[Model]) -> None:
        """Compare with what the server lists: forget what has gone, note what has arrived."""
        with self._lock:
            here = self._entries.get(_place(connection), {})
            for name, entry in list(here.items()):
                listed = next((model for model in models if model.answers_to(name)), None)
                if listed is None or listed.loaded is None:
                    continue  # this list cannot tell
                if listed.loaded:
                    entry.loading = False
                elif not entry.loading or self._clock() - entry.began > _LOADING_SECONDS:
                    del here[name]

    def models(self, connection: Connection) -> tuple[Loaded, ...]:
        """Return what of this connection's server is ours."""
        with self._lock:
            return _shown(self._entries.get(_place(connection), {}))

    def all(self) -> tuple[Loaded, ...]:
        """Return everything that is ours, on all servers."""
        with self._lock:
            return tuple(item for here in self._entries.values() for item in _shown(here))


def _shown(entries: dict[str, _Entry]) -> tuple[Loaded, ...]:
    return tuple(
        Loaded(entry.connection, entry.model, entry.loading, entry.number) for entry in entries.values()
    )


def _place(connection: Connection) -> Hashable:
    """Return what two connections to the same server have in common."""
    if not connection.host:
        return connection.name
    return "localhost" if connection.host in _THIS_MACHINE else connection.host, connection.port


_ledger = Ledger()


def ledger() -> Ledger:
    """Return the process's ledger."""
    return _ledger


def _begin_anew() -> None:
    """A child process has loaded nothing, and another thread may have held the lock when it was forked."""
    global _ledger  # noqa: PLW0603 - one ledger a process is the point
    _ledger = Ledger()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
