"""For the tests of plugin authors: a conformance kit for providers, and a server that fails on command.

Nothing else of lmbridge imports this package.
"""

from __future__ import annotations

from lmbridge.testing.faults import Fault
from lmbridge.testing.record import Asked
from lmbridge.testing.replies import Reply
from lmbridge.testing.server import FaultServer
from lmbridge.testing.websocket import WebSocket, frame

__all__ = ["Asked", "Fault", "FaultServer", "Reply", "WebSocket", "frame"]
