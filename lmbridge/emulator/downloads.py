"""Downloads: jobs that make steps by the clock, and a model that is there at their end."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.aio import Pulse
from lmbridge.emulator.catalog import CatalogModel
from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable

    from lmbridge.emulator.aio import Tasks
    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.gates import Gates
    from lmbridge.emulator.ids import Ids
    from lmbridge.emulator.settings import Settings

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""What the emulator's clock counts from where a date is shown."""

MAX_JOBS = 1000
"""Downloads that an emulator makes in its life: each leaves a model in its catalogue."""

_HUGGING_FACE = re.compile(r"https://huggingface\.co/(?P<key>[\w.-]+/[\w.-]+)/?\Z")


@dataclass(eq=False, slots=True)
class Download:
    """One job; `status` is `downloading`, `paused`, `completed` or `failed` (docs: rest/download-status)."""

    id: str
    model: CatalogModel
    started: float
    status: str = "downloading"
    fraction: float = 0.0
    completed: float | None = None
    cancelled: bool = False
    changed: Pulse = field(default_factory=Pulse)
    task: asyncio.Task[None] | None = None


class Downloads:
    """All download jobs of an emulator.

    Args:
        catalog: what can be downloaded; a downloaded model takes the place of its entry.
        settings: returns the present settings.
        clock: time.
        gates: where a download can be held.
        tasks: the downloads' tasks.
        ids: where the jobs' ids come from.
        on_change: called whenever a job has made a step.
    """

    def __init__(
        self,
        catalog: list[CatalogModel],
        *,
        settings: Callable[[], Settings],
        clock: Clock,
        gates: Gates,
        tasks: Tasks,
        ids: Ids,
        on_change: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._gates = gates
        self._tasks = tasks
        self._ids = ids
        self._on_change = on_change
        self._jobs: dict[str, Download] = {}

    def find(self, name: str) -> CatalogModel:
        """Return the model that can be downloaded under a key or a Hugging Face address.

        Any model of Hugging Face "exists": a small text model is made up for it.

        Raises:
            EmulatedError: no such model.
        """
        match = _HUGGING_FACE.match(name)
        key = match.group("key").removesuffix("-GGUF").lower() if match else name
        for model in self._catalog:
            if model.key.lower() == key:
                return model
        if match is None:
            message = f"Model '{name}' not found."
            raise EmulatedError(message, status=404, native_type="model_not_found", param="model")
        return CatalogModel(key=key, downloaded=False, size_bytes=1_000_000_000)

    def start(self, model: CatalogModel) -> Download | None:
        """Begin a download, join the one that runs or resume the paused one; None if the model is there.

        Raises:
            EmulatedError: there have been too many.
        """
        if any(entry.key == model.key and entry.downloaded for entry in self._catalog):
            return None
        for job in self._jobs.values():
            if job.model.key == model.key and job.status in ("downloading", "paused"):
                self._resume(job)
                return job
        if len(self._jobs) >= MAX_JOBS:
            raise EmulatedError("Too many downloads.", status=500, native_type="internal_error")
        job = Download(f"job_{self._ids.hexadecimal(10)}", model, self._clock.now())
        self._jobs[job.id] = job
        job.task = self._tasks.spawn(self._run(job), f"download {model.key}")
        return job

    def _resume(self, job: Download) -> None:
        if job.status == "paused":
            job.status = "downloading"
            self._changed(job)

    def get(self, job_id: str) -> Download:
        """Return a job.

        Raises:
            EmulatedError: no such job.
        """
        if job_id not in self._jobs:
            message = f"Download job '{job_id}' not found."
            raise EmulatedError(message, status=404, native_type="job_not_found", param="job_id")
        return self._jobs[job_id]

    async def _run(self, job: Download) -> None:
        steps = self._settings().download_steps
        for step in range(steps):
            await self._gates.checkpoint("downloading", step, job.model.key)
            await self._clock.sleep(self._settings().pace.download_step)
            job.fraction = (step + 1) / steps
            self._changed(job)
            if step + 1 == max(steps // 2, 1) and not await self._goes_on(job):
                return
        self._catalog[:] = [model for model in self._catalog if model.key != job.model.key]
        self._catalog.append(dataclasses.replace(job.model, downloaded=True))
        job.status, job.completed = "completed", self._clock.now()
        self._changed(job)

    async def _goes_on(self, job: Download) -> bool:
        """Wait while the job is paused; False if it fails, as the settings say."""
        if self._settings().download_ends == "failed":
            job.status = "failed"
            self._changed(job)
            return False
        if self._settings().download_ends == "paused":
            job.status = "paused"
            self._changed(job)
        while job.status == "paused":
            await job.changed.wait()
        return True

    def cancel(self, job: Download) -> None:
        """Stop a download."""
        if job.task is not None and job.status in ("downloading", "paused"):
            job.task.cancel()
            job.cancelled = True
            job.status = "failed"
            self._changed(job)

    def clear(self) -> None:
        """Stop and forget all downloads."""
        for job in self._jobs.values():
            self.cancel(job)
        self._jobs.clear()

    async def watch(self, job: Download) -> AsyncIterator[float]:
        """Yield the fraction whenever it has changed, until the end."""
        seen = -1.0
        while True:
            if job.fraction != seen:
                seen = job.fraction
                yield seen
            if job.status in ("completed", "failed"):
                return
            if job.fraction == seen:
                await job.changed.wait()

    def progress(self, job: Download) -> dict[str, Any]:
        """Return an update as the SDK's channel sends it."""
        elapsed = max(self._clock.now() - job.started, 1e-3)
        done = int(job.model.size_bytes * job.fraction)
        return {
            "downloadedBytes": done,
            "totalBytes": job.model.size_bytes,
            "speedBytesPerSecond": done / elapsed,
        }

    def started_body(self, job: Download | None) -> dict[str, Any]:
        """Return the answer to the start of a download (docs: rest/download)."""
        if job is None:
            return {"status": "already_downloaded"}
        body: dict[str, Any] = {
            "job_id": job.id,
            "status": job.status,
            "total_size_bytes": job.model.size_bytes,
            "started_at": self._date(job.started),
        }
        if job.completed is not None:
            body["completed_at"] = self._date(job.completed)
        return body

    def status_body(self, job: Download) -> dict[str, Any]:
        """Return the answer to a question for the status (docs: rest/download-status)."""
        body = self.started_body(job)
        body["downloaded_bytes"] = int(job.model.size_bytes * job.fraction)
        if job.status == "downloading":
            elapsed = max(self._clock.now() - job.started, 1e-3)
            speed = body["downloaded_bytes"] / elapsed
            body["bytes_per_second"] = round(speed)
            if speed > 0:
                left = (job.model.size_bytes - body["downloaded_bytes"]) / speed
                body["estimated_completion"] = self._date(self._clock.now() + left)
        return body

    def _changed(self, job: Download) -> None:
        job.changed.send()
        self._on_change()

    @staticmethod
    def _date(moment: float) -> str:
        return (EPOCH + timedelta(seconds=moment)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
