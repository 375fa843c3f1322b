"""Unloading what this process had loaded, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmbridge.errors import LMBridgeError, ModelNotFound
from lmbridge.ledger import ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lmbridge.catalog import Model
    from lmbridge.ledger import Loaded
    from lmbridge.settings import Connection

__all__ = ["RELEASE_SECONDS", "release"]

#: How long a load that nobody wants any more is waited for, so that it can be undone.
RELEASE_SECONDS = 60.0
_POLL_SECONDS = 0.25


async def release(
    connection: Connection,
    model: str | None,
    listing: Callable[[], Awaitable[Sequence[Model]]],
    unload: Callable[[str], Awaitable[Sequence[str]]],
    *,
    seconds: float,
    newest: int | None = None,
) -> tuple[str, ...]:
    """Unload the models of one server that are ours, and return the ids of the copies.

    A load that is still under way is waited for, then undone; not one that began later, or for which another
    request waits by now.

    Args:
        connection: whose server.
        model: only this one; any name that the server knows it by.
        listing: asks the server what it has, which also brings the ledger up to date.
        unload: unloads a model, and returns once the server has confirmed.
        seconds: for loads that are still under way.
        newest: only loads up to this number (:attr:`lmbridge.ledger.Ledger.newest`); default all so far.

    Raises:
        LMBridgeError: the server did not answer, or kept a model; the others are unloaded all the same.
    """
    newest = ledger().newest if newest is None else newest
    numbers = {item.number for item in ledger().models(connection) if item.number <= newest}
    if not numbers:
        return ()
    deadline = asyncio.get_running_loop().time() + seconds
    ids: list[str] = []
    problem: LMBridgeError | None = None
    while True:
        models = await listing()
        ours = [item for item in ledger().models(connection) if item.number in numbers]
        wanted = _wanted(ours, models, model)
        for name in [item.model for item in wanted if not item.loading]:
            try:
                ids += await unload(name)
            except ModelNotFound:
                pass  # it has gone by itself
            except LMBridgeError as error:
                problem = problem or error
                continue
            ledger().gone(connection, [name])
        if problem is not None:
            raise problem
        if not any(item.loading for item in wanted) or asyncio.get_running_loop().time() >= deadline:
            return tuple(ids)
        await asyncio.sleep(_POLL_SECONDS)


def _wanted(ours: Sequence[Loaded], models: Sequence[Model], name: str | None) -> list[Loaded]:
    if name is None:
        return list(ours)
    meant = next((model for model in models if model.answers_to(name)), None)
    return [
        item for item in ours if item.model == name or (meant is not None and meant.answers_to(item.model))
    ]
