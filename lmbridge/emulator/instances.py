"""Loaded models: loading on request and by hand, TTL, eviction, several instances, parallel slots."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lmbridge.emulator import errors
from lmbridge.emulator.aio import Pulse, Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.gates import Gates
    from lmbridge.emulator.settings import Settings


MAX_INSTANCES = 64
"""What the emulated machine can hold; more fail as for want of memory."""


class Work(Protocol):
    """Something that runs on an instance and can be told that the instance is gone."""

    def stop(self, reason: str) -> None:
        """End soon."""
        ...


@dataclass(eq=False, slots=True)
class Instance:
    """A loaded model.

    Attributes:
        id: `key`, `key:2`, ... or the client's own name.
        model: the catalogue's entry.
        reference: 24 base64 characters, new for every load.
        config: the load configuration as `/api/v1` shows it.
        fields: the load configuration as the SDK sent it, by its own keys.
        ttl_s: idle time until it is unloaded, None for ever.
        on_request: loaded because a request named it, hence subject to eviction.
        last_used: time of the last use by the emulator's clock.
        running: the predictions that use it, queued ones included.
    """

    id: str
    model: CatalogModel
    reference: str
    config: dict[str, Any]
    ttl_s: float | None
    on_request: bool
    last_used: float
    slots: asyncio.Semaphore
    running: set[Work] = field(default_factory=set)
    busy: int = 0
    """How many predictions hold a slot."""
    status: str = "idle"
    gone: bool = False
    """No longer loaded."""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def context_length(self) -> int:
        """Context in tokens."""
        return int(self.config["context_length"])


class Load:
    """A load in progress, watched by everybody who asked for it."""

    def __init__(self, model: CatalogModel, identifier: str) -> None:
        self.model = model
        self.identifier = identifier
        self.progress: list[float] = []
        self.evicted: list[Instance] = []
        self.seconds = 0.0
        self.watchers = 0
        self.task: asyncio.Task[Instance] | None = None
        self._changed = Pulse()

    def advance(self, fraction: float) -> None:
        """Report progress."""
        self.progress.append(fraction)
        self._changed.send()

    async def watch(self, report: Callable[[float], Awaitable[None]]) -> Instance:
        """Report all progress, from the beginning, and return the instance.

        Raises:
            EmulatedError: the load failed or was cancelled.
        """
        if self.task is None:
            raise RuntimeError("the load has not begun")
        self.task.add_done_callback(lambda _task: self._changed.send())
        seen = 0
        self.watchers += 1
        try:
            while True:
                while seen < len(self.progress):
                    seen += 1
                    await report(self.progress[seen - 1])
                if self.task.done():
                    break
                await self._changed.wait()
        finally:
            self.watchers -= 1
        if self.task.cancelled():
            raise errors.load_cancelled(self.model.key)
        return self.task.result()

    def abort(self) -> None:
        """Stop loading, whoever waits for it."""
        if self.task is not None:
            self.task.cancel()

    def cancel(self) -> None:
        """Stop loading, unless somebody else waits for it too."""
        if self.task is not None and self.watchers <= 1:
            self.task.cancel()


class Instances:
    """The memory of the emulated machine."""

    def __init__(
        self,
        catalog: list[CatalogModel],
        *,
        settings: Callable[[], Settings],
        clock: Clock,
        gates: Gates,
        tasks: Tasks,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.catalog = catalog
        self._on_change = on_change
        self._settings = settings
        self._clock = clock
        self._gates = gates
        self._tasks = tasks
        self._loaded: dict[str, Instance] = {}
        self._loading: dict[str, Load] = {}
        self._serial = itertools.count(1)

    # Looking

    def loaded(self, kind: str | None = None) -> list[Instance]:
        """Return the loaded instances, those whose time is over removed first."""
        now = self._clock.now()
        for instance in tuple(self._loaded.values()):
            idle = not instance.running and instance.ttl_s is not None
            if idle and now - instance.last_used >= (instance.ttl_s or 0.0):
                self._drop(instance, "expired")
        return [entry for entry in self._loaded.values() if kind in (None, entry.model.kind)]

    @property
    def loading(self) -> list[Load]:
        """The loads in progress."""
        return list(self._loading.values())

    def downloaded(self, kind: str | None = None) -> list[CatalogModel]:
        """Return the models on the disk."""
        return [model for model in self.catalog if model.downloaded and kind in (None, model.kind)]

    def find_model(self, key: str) -> CatalogModel | None:
        """Return the downloaded model of this key or variant id."""
        variants = self._settings().variant_ids
        for model in self.downloaded():
            if key == model.key or (variants and key in model.variants):
                return model
        return None

    def find_loaded(self, key: str) -> Instance | None:
        """Return the instance of this id, else the first of this model key."""
        instances = self.loaded()
        for instance in instances:
            if instance.id == key:
                return instance
        model = self.find_model(key)
        return next((entry for entry in instances if entry.model is model), None) if model else None

    def by_specifier(self, specifier: Any, kind: str) -> Instance:
        """Return the instance that a handle of the SDK means.

        Raises:
            EmulatedError: there is none.
        """
        query = specifier.get("query") or {} if isinstance(specifier, dict) else {}
        reference = specifier.get("instanceReference") if isinstance(specifier, dict) else None
        for instance in self.loaded(kind):
            if reference is not None and instance.reference != reference:
                continue
            if query.get("identifier") not in (None, instance.id):
                continue
            if query.get("path") not in (None, instance.model.key, instance.model.path):
                continue
            if query.get("vision") not in (None, instance.model.vision):
                continue
            return instance
        raise errors.no_instance(
            query or {"instanceReference": reference}, [entry.id for entry in self.loaded(kind)]
        )

    # Changing

    def resolve(self, key: str | None, kind: str) -> CatalogModel:
        """Return the model that a request names, before anything is loaded.

        Raises:
            EmulatedError: there is none, or it is not of this kind.
        """
        instance = self.find_loaded(key) if key else next(iter(self.loaded(kind)), None)
        if key and instance is None and self._settings().wrong_model_served and len(self.loaded(kind)) == 1:
            instance = self.loaded(kind)[0]
        model = instance.model if instance else self.find_model(key) if key else None
        settings = self._settings()
        if model is None or (instance is None and not settings.jit):
            if key is None or (not settings.jit and not self.loaded()):
                raise errors.nothing_loaded()
            names = (
                [entry.key for entry in self.downloaded()] if settings.jit else [e.id for e in self.loaded()]
            )
            raise errors.unknown_model(key, names, jit=settings.jit)
        if model.kind != kind:
            raise errors.domain_mismatch(model.key, model.kind, kind)
        return model

    def ready(self, key: str | None, model: CatalogModel) -> Instance | None:
        """Return the instance that will serve a request whose model has been resolved."""
        instance = self.find_loaded(key) if key else None
        return instance or next((entry for entry in self.loaded() if entry.model is model), None)

    def begin_load(
        self,
        model: CatalogModel,
        *,
        identifier: str | None = None,
        ttl_s: float | None = None,
        on_request: bool = False,
        config: dict[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
    ) -> Load:
        """Begin to load, or join a load of the same key that a request began.

        Args:
            model: what to load.
            identifier: the instance's id; by default `key`, `key:2`, ...
            ttl_s: idle time until it is unloaded.
            on_request: whether a request caused it; others that were loaded so are evicted.
            config: parts of the load configuration.
            fields: the same, and what only the SDK has, by the SDK's keys.
        """
        if (
            on_request
            and (running := self._loading.get(model.key))
            and running.task
            and not running.task.done()
        ):
            return running
        load = Load(model, identifier or self._free_id(model.key))
        if on_request and self._settings().auto_evict:
            load.evicted = self._evict()
        self._loading[load.identifier] = load
        work = self._load(load, ttl_s, {**(config or {})}, {**(fields or {})}, on_request=on_request)
        load.task = self._tasks.spawn(work, f"load {load.identifier}")
        load.task.add_done_callback(lambda _task: self._loading_ended(load))
        return load

    def _loading_ended(self, load: Load) -> None:
        self._loading.pop(load.identifier, None)
        self._on_change()

    async def _load(
        self,
        load: Load,
        ttl_s: float | None,
        config: dict[str, Any],
        fields: dict[str, Any],
        *,
        on_request: bool,
    ) -> Instance:
        began = self._clock.now()
        steps = max(load.model.load_steps, 1)
        for step in range(steps):
            await self._gates.checkpoint("loading", step, load.model.key)
            await self._clock.sleep(self._settings().pace.load_step)
            if self._settings().load_failure and step == steps // 2:
                raise errors.load_failed(load.model.key)
            load.advance((step + 1) / steps)
        load.seconds = self._clock.now() - began
        if len(self._loaded) >= MAX_INSTANCES:
            raise errors.load_failed(load.model.key)
        if on_request and self._settings().auto_evict:
            self._evict()  # what another request has loaded meanwhile
        instance = self.add(
            load.model, identifier=load.identifier, ttl_s=ttl_s, on_request=on_request, config=config
        )
        instance.fields = fields
        return instance

    def add(
        self,
        model: CatalogModel,
        *,
        identifier: str | None = None,
        ttl_s: float | None = None,
        on_request: bool = False,
        config: dict[str, Any] | None = None,
    ) -> Instance:
        """Make an instance at once."""
        settings = self._settings()
        serial = next(self._serial)
        digest = hashlib.sha256(f"{model.key}/{serial}".encode()).digest()
        full: dict[str, Any] = {"context_length": min(settings.context_length, model.max_context_length)}
        if model.kind == "llm":
            full |= {
                "eval_batch_size": 512,
                "parallel": settings.parallel,
                "flash_attention": True,
                "num_experts": 0,
                "offload_kv_cache_to_gpu": True,
            }
        full |= {key: value for key, value in (config or {}).items() if value is not None}
        instance = Instance(
            id=identifier or self._free_id(model.key),
            model=model,
            reference=base64.b64encode(digest[:18]).decode("ascii"),
            config=full,
            ttl_s=ttl_s,
            on_request=on_request,
            last_used=self._clock.now(),
            slots=asyncio.Semaphore(max(int(full.get("parallel", settings.parallel)), 1)),
        )
        self._loaded[instance.id] = instance
        self._on_change()
        return instance

    def unload(self, identifier: str, kind: str | None = None) -> Instance:
        """Unload an instance; its predictions end.

        Raises:
            EmulatedError: there is no such instance.
        """
        instances = {entry.id: entry for entry in self.loaded(kind)}
        if identifier not in instances:
            raise errors.unknown_instance(identifier, list(instances))
        self._drop(instances[identifier], "unloaded")
        return instances[identifier]

    def touch(self, instance: Instance) -> None:
        """Note that the instance is in use: its idle time begins anew."""
        instance.last_used = self._clock.now()

    def crash(self, instance: Instance) -> None:
        """Lose an instance without a word to its other predictions but that it is gone."""
        self._drop(instance, "crashed")

    def clear(self) -> None:
        """Stop all loads and unload everything."""
        for load in self.loading:
            load.abort()
        for instance in tuple(self._loaded.values()):
            self._drop(instance, "unloaded")

    def _evict(self) -> list[Instance]:
        evicted = [entry for entry in self.loaded() if entry.on_request]
        for instance in evicted:
            self._drop(instance, "evicted")
        return evicted

    def _drop(self, instance: Instance, reason: str) -> None:
        self._loaded.pop(instance.id, None)
        instance.gone = True
        for work in tuple(instance.running):
            work.stop(reason)
        self._on_change()

    def _free_id(self, key: str) -> str:
        taken: Sequence[str] = [*self._loaded, *self._loading]
        return next(
            name for n in itertools.count(1) if (name := key if n == 1 else f"{key}:{n}") not in taken
        )
