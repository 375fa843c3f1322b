"""Which page a node's updates go to, and where on it they are shown."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _host

if TYPE_CHECKING:
    from ._host import Place

__all__ = ["Screen", "has_script", "remember_page", "screen_of"]

_PAGES = 256

_lock = threading.Lock()
_pages: OrderedDict[str, None] = OrderedDict()


class Screen(NamedTuple):
    """Where the updates of one node go.

    Attributes:
        place: the node's place in the execution.
        display_node: the node to show it on, where the other was made by an expansion.
        client: the page that queued the prompt; ``None``: nobody looks.
        workflow: id of the workflow, as the page knows it.
        has_script: our script runs in that page, so ComfyUI's own text display is not needed.
    """

    place: Place
    display_node: str
    client: str | None
    workflow: str | None = None
    has_script: bool = True


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
