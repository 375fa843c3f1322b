"""The only contact with ComfyUI: its node API, its server, its memory, its progress.

ComfyUI's node API is about to change again; what is used of it is gathered here, in the fewest places. What
is not part of the versioned ``comfy_api`` is imported where it is used.
"""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from comfy_api.latest import ComfyAPI, ComfyExtension, io

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

__all__ = [
    "ComfyExtension",
    "Place",
    "add_middleware",
    "add_prompt_handler",
    "add_route",
    "claim",
    "client_id",
    "free_memory",
    "has_node",
    "interrupted",
    "interruption",
    "io",
    "is_running",
    "on_startup",
    "place",
    "private_folder",
    "register_replacement",
    "send",
    "send_text",
    "set_progress",
]

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where in the execution a node's call is.

    Attributes:
        prompt_id: of the queued prompt.
        node: execution id of the node, ``"12:3"`` within a subgraph.
        item: number of the item, where ComfyUI maps the node over a list.
    """

    prompt_id: str
    node: str
    item: int


# -- execution -----------------------------------------------------------------------------------------


def place(unique_id: str | None) -> Place:
    """Return where the running ``execute`` is. To be called in its own context."""
    from comfy_execution.utils import get_executing_context  # noqa: PLC0415

    context = get_executing_context()
    if context is None:
        return Place("", unique_id or "", 0)
    return Place(context.prompt_id, unique_id or context.node_id, context.list_index or 0)


def interrupted() -> bool:
    """Whether the user has cancelled what runs. Any thread may ask."""
    from comfy import model_management  # noqa: PLC0415

    return bool(model_management.processing_interrupted())


def interruption() -> BaseException:
    """Return the exception that makes ComfyUI report *interrupted*.

    Raised as it is, the flag stays set: whoever else works on the prompt has to see it, too. ComfyUI clears
    it before the next prompt.
    """
    from comfy import model_management  # noqa: PLC0415

    exception: BaseException = model_management.InterruptProcessingException()
    return exception


def is_running(prompt_id: str) -> bool:
    """Whether the prompt is being executed at this moment."""
    running, _ = _server().prompt_queue.get_current_queue_volatile()  # the other copies every queued graph
    return any(item[1] == prompt_id for item in running)


def free_memory() -> None:
    """Unload ComfyUI's models. Only in the thread of ``execute``: elsewhere it races with sampling."""
    from comfy import model_management  # noqa: PLC0415

    model_management.unload_all_models()
    gc.collect()
    model_management.soft_empty_cache()


async def set_progress(node: str, value: float, maximum: float) -> None:
    """Move the node's progress bar. To be called on the prompt's own loop."""
    await ComfyAPI().execution.set_progress(value=value, max_value=maximum, node_id=node)


# -- server --------------------------------------------------------------------------------------------


def _server() -> Any:
    from server import PromptServer  # noqa: PLC0415 - does not exist in tools that only read the nodes

    return PromptServer.instance


def client_id() -> str | None:
    """Return the page that queued the running prompt; ``None``: it was queued by something else."""
    found: str | None = _server().client_id
    return found


def send(event: str, data: Mapping[str, Any], client: str) -> None:
    """Send an event to one page. Any thread may call it."""
    _server().send_sync(event, data, client)


def send_text(text: str, node: str, client: str) -> None:
    """Show ``text`` on the node by ComfyUI's own means. Any thread may call it."""
    _server().send_progress_text(text, node, client)


def claim(name: str) -> str:
    """Return who was the first to call this in the process; ``name``: we are."""
    first: str = _server().__dict__.setdefault("lmbridge_pack", name)
    return first


def add_route(method: str, path: str, handler: Callable[[Any], Awaitable[Any]]) -> None:
    """Serve ``path``, and the same below ``/api``. Only before the server has started.

    Where another pack has the same route, it keeps it: two of one name would stop ComfyUI's start.
    """
    routes = _server().routes
    if any(getattr(route, "path", None) == path and route.method == method for route in routes):
        _log.warning("another pack has the route %s %s", method, path)
        return
    routes.route(method, path)(handler)


def add_middleware(middleware: Callable[..., Awaitable[Any]]) -> None:
    """Put an aiohttp middleware around all routes. Only before the server has started."""
    _server().app.middlewares.append(middleware)


def on_startup(callback: Callable[[Any], Awaitable[None]]) -> None:
    """Have ``callback`` awaited on the server's loop, just before it listens."""
    _server().app.on_startup.append(callback)


def add_prompt_handler(handler: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Let ``handler`` see, and change, each request to ``POST /prompt`` before ComfyUI reads it."""
    _server().add_on_prompt_handler(handler)


async def register_replacement(
    old: str,
    new: str,
    *,
    widgets: list[str],
    inputs: Iterable[Mapping[str, Any]],
    outputs: Iterable[tuple[int, int]],
) -> None:
    """Offer our node in the place of another pack's.

    Args:
        old: id of the other node.
        new: id of ours.
        widgets: ids of the other's widgets, in the order in which workflows save their values.
        inputs: ``{"new_id", "old_id"}`` or ``{"new_id", "set_value"}``.
        outputs: pairs of output numbers, old and new.
    """
    await ComfyAPI().node_replacement.register(
        io.NodeReplace(
            new_node_id=new,
            old_node_id=old,
            old_widget_ids=widgets,
            input_mapping=[dict(item) for item in inputs],
            output_mapping=[{"old_idx": before, "new_idx": after} for before, after in outputs],
        )
    )


def has_node(node_id: str) -> bool:
    """Whether some pack provides a node of that id."""
    import nodes  # noqa: PLC0415

    return node_id in nodes.NODE_CLASS_MAPPINGS


def private_folder() -> Path | None:
    """Return the folder of ours that ComfyUI never serves over HTTP; ``None`` if it has no such."""
    from pathlib import Path  # noqa: PLC0415

    import folder_paths  # noqa: PLC0415

    find = getattr(folder_paths, "get_system_user_directory", None)
    return None if find is None else Path(find("lmbridge"))
