"""How often each node gave its fallback text; part of its fingerprint, so that it asks again next time."""

from __future__ import annotations

import threading
from collections import OrderedDict

__all__ = ["count", "note"]

_KEPT = 1024

_lock = threading.Lock()
_counts: OrderedDict[str, int] = OrderedDict()


def note(node: str) -> None:
    """A node has given its fallback text."""
    with _lock:
        _counts[node] = _counts.pop(node, 0) + 1
        while len(_counts) > _KEPT:
            _counts.popitem(last=False)


def count(node: str | None) -> int:
    """Return how often the node has given its fallback text."""
    with _lock:
        return _counts.get(node or "", 0)
