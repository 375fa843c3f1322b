"""Embeddings: a bag of words hashed into a vector, so that like texts have like vectors."""

from __future__ import annotations

import asyncio
import hashlib
import math
from typing import TYPE_CHECKING

from lmbridge.emulator import errors, tokens

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.instances import Instance
    from lmbridge.emulator.journal import RequestRecord


def vector(text: str, dimensions: int) -> list[float]:
    """Return the unit vector of a text, the same in every run."""
    values = [0.0] * dimensions
    for piece in tokens.pieces(text.lower()) or [""]:
        digest = hashlib.sha256(piece.strip().encode("utf-8", "surrogatepass")).digest()
        for index in range(0, 32, 4):
            position = int.from_bytes(digest[index : index + 3], "big") % dimensions
            values[position] += 1.0 if digest[index + 3] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in values))
    if not length:  # opposite signs have met everywhere
        values[0] = length = 1.0
    return [value / length for value in values]


class _Work:
    """An embedding that runs on an instance; it keeps it from expiring."""

    def __init__(self) -> None:
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Note that the instance is gone."""
        self.stopped = reason


async def embed(
    core: Core, instance: Instance, texts: list[str], record: RequestRecord
) -> tuple[list[list[float]], int]:
    """Embed texts on an instance, and return the vectors and the tokens they took.

    Raises:
        EmulatedError: the instance was lost meanwhile.
    """
    record.model = instance.model.key
    record.enter("embedding")
    work = _Work()
    hangs = core.settings.parallel_embeddings_hang and bool(instance.running)
    instance.running.add(work)
    try:
        await core.gates.checkpoint("embedding", 0, instance.model.key)
        if hangs:
            await asyncio.Event().wait()
        async with instance.slots:
            with instance.at_work():
                vectors = await _vectors(core, instance, texts, record)
    finally:
        instance.running.discard(work)
        core.instances.touch(instance)
    if work.stopped is not None:
        raise errors.crashed() if work.stopped == "crashed" else errors.unloaded()
    return vectors, record.prompt_tokens


async def _vectors(
    core: Core, instance: Instance, texts: list[str], record: RequestRecord
) -> list[list[float]]:
    instance.status = "computingEmbedding"
    core.instances.touch(instance)
    record.prompt_tokens = sum(tokens.count(text) for text in texts)
    dimensions = instance.model.dimensions
    vectors = await asyncio.to_thread(lambda: [vector(text, dimensions) for text in texts])
    await core.clock.sleep(core.settings.pace.token * len(texts))
    return vectors
