"""Unloading models, on the thread of lmbridge's runtime."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from lmbridge.errors import LMBridgeError, ModelNotFound
from lmbridge.ledger import ledger
from lmbridge.runtime import runtime

from . import _host
from .calls import running_calls
from .choices import UNLOAD
from .handover import handover
from .problems import remember, sentence
from .service import service

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine

    from .handover import Leaving

__all__ = ["in_background", "release_everything", "unload", "unload_when_over"]

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
#: How long a model that others are still using is waited for.
_BUSY_SECONDS = 600.0


def unload(leaving: Leaving) -> Coroutine[Any, Any, list[str]]:
    """Unload, and return one note for each model that could not be.

    What is loaded after this call belongs to a later prompt, and stays.
    """
    return _unload_all(leaving, ledger().newest)


async def _unload_all(leaving: Leaving, newest: int) -> list[str]:
    notes: list[str] = []
    for use, (mode, names) in leaving.items():
        for name in sorted(names):
            try:
                await _unload(use.connection, name, newest, everything=mode == UNLOAD)
            except LMBridgeError as error:
                remember(error)
                notes.append(f"{name} could not be unloaded: {sentence(error)}")
    return notes


async def _unload(connection: str, model: str, newest: int, *, everything: bool) -> None:
    bridge = (await asyncio.to_thread(service.open)).bridge
    await _wait_until_idle(connection, model)
    try:
        if not everything:
            await bridge.release(connection, model, newest=newest)
        elif not any(item.model == model and item.number > newest for item in ledger().all()):
            await bridge.unload_model(connection, model)
    except ModelNotFound:
        _log.debug("%s has left %s by itself", model, connection)


async def _wait_until_idle(connection: str, model: str | None) -> None:
    """Wait until no call uses the model: ComfyUI may have begun its next prompt."""

    def busy() -> bool:
        return any(
            call.connection == connection and (model is None or call.request.model in {model, None})
            for call in running_calls()
        )

    async with asyncio.timeout(_BUSY_SECONDS):
        while busy():  # noqa: ASYNC110 - calls end on other threads, and few
            await asyncio.sleep(_POLL_SECONDS)


async def unload_when_over(prompt_id: str) -> None:
    """Unload what still has to leave when ComfyUI has ended the prompt."""
    while _host.is_running(prompt_id):  # noqa: ASYNC110 - ComfyUI tells nobody
        await asyncio.sleep(_POLL_SECONDS)
    await unload(handover.left_over(prompt_id))


async def release_everything() -> None:
    """Unload all that this process had servers load: ComfyUI's unload button was pressed."""
    bridge = (await asyncio.to_thread(service.open)).bridge
    for connection in dict.fromkeys(item.connection for item in ledger().all()):
        try:
            await _wait_until_idle(connection, None)
            await bridge.release(connection)
        except LMBridgeError as error:
            remember(error)
            _log.warning("LM Bridge cannot unload its models: %s", error)


_background: set[concurrent.futures.Future[Any]] = set()


def in_background(work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
    """Do something on the runtime's thread that nobody waits for; what goes wrong is logged."""
    future = runtime().submit(work)
    _background.add(future)
    future.add_done_callback(_ended)
    return future


def _ended(future: concurrent.futures.Future[Any]) -> None:
    _background.discard(future)
    if not future.cancelled() and (exc := future.exception()) is not None:
        _log.error("LM Bridge could not free memory", exc_info=exc)
