"""How a connection fails."""

from __future__ import annotations

__all__ = ["Broken", "CannotConnect", "ConnectTimedOut", "Garbled"]


class Broken(ConnectionError):
    """The connection ended before the answer did."""


class Garbled(ConnectionError):
    """What the server sent is no HTTP."""


class CannotConnect(ConnectionError):
    """No connection could be opened; the cause says why."""


class ConnectTimedOut(CannotConnect):
    """No connection could be opened in time."""
