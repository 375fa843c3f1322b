"""How a prediction comes to the instance that it runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmbridge.emulator import engine_errors, errors, events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmbridge.emulator.core import Core
    from lmbridge.emulator.events import EngineEvent
    from lmbridge.emulator.instance import Instance
    from lmbridge.emulator.job import Job
    from lmbridge.emulator.journal import RequestRecord


class Acquisition:
    """Finds the instance of a job, or loads one.

    Args:
        core: the emulator.
        job: what is to be predicted.
        record: where a load is noted.
        emit: is told of a load and its progress.
    """

    def __init__(
        self, core: Core, job: Job, record: RequestRecord, emit: Callable[[EngineEvent], Awaitable[None]]
    ) -> None:
        self._core = core
        self._settings = core.settings
        self._job = job
        self._record = record
        self._emit = emit
        self.load_seconds: float | None = None
        """How long the load took, if there was one."""

    async def instance(self) -> Instance:
        """Return a loaded instance.

        Raises:
            EmulatedError: it cannot be loaded, or is gone already.
        """
        job = self._job
        instance = job.instance or self._core.instances.ready(job.asked_model, job.model)
        if instance is None or (job.instance is None and not self._has_context(instance)):
            instance = await self._loaded()
        if instance.gone:  # unloaded by hand, or another load has taken its place
            raise errors.unloaded()
        return instance

    def _has_context(self, instance: Instance) -> bool:
        """Tell whether a loaded instance will do for the context that the request asks for."""
        asked, mode = self._job.context_length, self._settings.context_mismatch
        if mode == "ignored" or asked in (None, instance.context_length):
            return True
        if mode == "refused":
            raise engine_errors.context_refused(instance.model.key, instance.context_length, asked or 0)
        return False

    async def _loaded(self) -> Instance:
        job, instances = self._job, self._core.instances
        self._record.enter("loading")
        ttl = job.ttl_s if job.ttl_s is not None else self._settings.jit_ttl_s
        config = {"context_length": job.context_length}
        load = instances.begin_load(job.model, ttl_s=ttl, on_request=True, config=config)
        await self._emit(events.LoadBegins(load.identifier, tuple(load.evicted)))
        try:
            instance = await load.watch(lambda part: self._emit(events.LoadProgress(load.identifier, part)))
        except asyncio.CancelledError:
            if not self._settings.load_survives_disconnect:
                load.cancel()
            raise
        self.load_seconds = load.seconds
        await self._emit(events.LoadEnds(load.identifier, load.seconds))
        return instance
