"""What the models node does when it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from lmbridge.errors import InvalidRequest, LMBridgeError
from lmbridge.operations import LoadRequest
from lmbridge.runtime import runtime

from .display import Display
from .listing import as_line
from .option_values import json_object
from .problems import NodeError, remember, sentence
from .requests import model_of
from .service import service
from .waiting import or_interrupted

if TYPE_CHECKING:
    from lmbridge.bridge import Bridge

    from .screens import Screen

__all__ = ["Order", "carry_out"]


class Order(NamedTuple):
    """What the node was told.

    Attributes:
        action: ``list``, ``load`` or ``unload``.
        connection: name of the connection.
        model: as the widget says.
        context_length: tokens; ``None``: the server's default.
        ttl: seconds; ``None``: the server's default.
        config: JSON object of further load settings, or empty.
    """

    action: str
    connection: str
    model: str
    context_length: int | None
    ttl: float | None
    config: str


async def carry_out(order: Order, screen: Screen) -> tuple[str, list[str]]:
    """Do it, and return a text that says what there is now, and the models' names.

    Raises:
        NodeError: it failed, in one sentence.
        BaseException: ComfyUI's own, if the user cancels.
    """
    try:
        config = json_object("config", order.config)
        name = model_of(order.model)
        if order.action != "list" and name is None:
            raise InvalidRequest(f"no model to {order.action} is chosen", hint="choose one in the model list")
        request = LoadRequest(
            model=name or "", context_length=order.context_length, ttl=order.ttl, config=config
        )
        return await or_interrupted(runtime().submit(_work(order, request, screen)), cancel=True)
    except LMBridgeError as error:
        remember(error)
        raise NodeError(sentence(error)) from None


async def _work(order: Order, request: LoadRequest, screen: Screen) -> tuple[str, list[str]]:
    display = Display(screen)
    display.begin()
    try:
        found = await _done(order, request, display)
    except LMBridgeError as error:
        display.end("failed", sentence(error))
        raise
    except asyncio.CancelledError:
        display.end("cancelled")
        raise
    display.end("done")
    return found


async def _done(order: Order, request: LoadRequest, display: Display) -> tuple[str, list[str]]:
    bridge = (await asyncio.to_thread(service.open)).bridge
    told = ""
    if order.action == "load":
        copy = await bridge.load_model(order.connection, request, on_progress=display.take)
        context = f" with {copy.context_length} tokens of context" if copy.context_length else ""
        told = f"{copy.id} is loaded{context}."
    elif order.action == "unload":
        gone = await bridge.unload_model(order.connection, request.model)
        told = f"{', '.join(gone)} was unloaded." if gone else f"{request.model} was not loaded."
    return await _listed(bridge, order.connection, told)


async def _listed(bridge: Bridge, connection: str, told: str) -> tuple[str, list[str]]:
    listing = await bridge.list_models(connection)
    for error in listing.errors.values():
        if not told:
            raise error
        return told, []  # what was asked for is done; that the list is missing is no failure
    lines = [told, *map(as_line, listing.models)]
    return "\n".join(filter(None, lines)), [model.id for model in listing.models]
