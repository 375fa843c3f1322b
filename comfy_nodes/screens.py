"""Which page a node's updates go to, and where on it they are shown."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from . import _host
from .display import Screen

__all__ = ["has_script", "remember_page", "screen_of"]

_PAGES = 256

_lock = threading.Lock()
_pages: OrderedDict[str, None] = OrderedDict()


def remember_page(client: str) -> None:
    """Remember that our script runs in a page."""
    with _lock:
        _pages[client] = None
        _pages.move_to_end(client)
        while len(_pages) > _PAGES:
            _pages.popitem(last=False)


def has_script(client: str | None) -> bool:
    """Whether our script runs in the page."""
    with _lock:
        return client in _pages


def screen_of(hidden: Any) -> Screen:
    """Return where the updates of the running ``execute`` go. To be called in its own context.

    Args:
        hidden: the node's hidden inputs.
    """
    place = _host.place(hidden.unique_id)
    client = _host.client_id()
    dynamic = hidden.dynprompt
    shown = dynamic.get_display_node_id(place.node) if dynamic is not None else place.node
    workflow = (hidden.extra_pnginfo or {}).get("workflow")
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return Screen(place, shown, client, found if isinstance(found, str) else None, has_script(client))
