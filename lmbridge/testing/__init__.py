"""For the tests of plugin authors: a conformance kit for providers, and a server that fails on command.

Names are imported on first use: a pytest plugin of this package is loaded by every pytest of an environment
that has lmbridge. :class:`ProviderConformance` needs pytest, the rest does not. Nothing else of lmbridge
imports this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmbridge.testing.bench import Bench
    from lmbridge.testing.conformance import ProviderConformance
    from lmbridge.testing.faults import Fault
    from lmbridge.testing.record import Asked
    from lmbridge.testing.replies import Reply
    from lmbridge.testing.server import FaultServer
    from lmbridge.testing.turns import Turn
    from lmbridge.testing.websocket import WebSocket, frame

_HOME = {
    "Asked": "record",
    "Bench": "bench",
    "Fault": "faults",
    "FaultServer": "server",
    "ProviderConformance": "conformance",
    "Reply": "replies",
    "Turn": "turns",
    "WebSocket": "websocket",
    "frame": "websocket",
}

__all__ = [
    "Asked",
    "Bench",
    "Fault",
    "FaultServer",
    "ProviderConformance",
    "Reply",
    "Turn",
    "WebSocket",
    "frame",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lmbridge.testing' has no attribute {name!r}")
    value = getattr(import_module(f"lmbridge.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
