"""Loaded models: loading on request and by hand, TTL, eviction, several instances, parallel slots."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors
from lmbridge.emulator.instance import Instance, Work
from lmbridge.emulator.load import Load, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmbridge.emulator.aio import Tasks
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.gates import Gates
    from lmbridge.emulator.settings import Settings


__all__ = ["MAX_INSTANCES", "Instance", "Instances", "Load", "Work", "memory_of"]

MAX_INSTANCES = 64
"""What the emulated machine can hold; more fail as for want of memory."""


def memory_of(model: CatalogModel) -> int:
    """Return the bytes that a model takes when it is loaded: its own, and a tenth of it for its context."""
    return model.size_bytes + model.size_bytes // 10


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
        running = self._loading.get(model.key)
        if on_request and running is not None and running.running:
            return running
        settings = self._settings()
        if settings.ttl_ignored and ttl_s is not None:
            ttl_s = settings.jit_ttl_s if on_request else None
        load = Load(
            Wanted(
                model=model,
                identifier=identifier or self._free_id(model.key),
                ttl_s=ttl_s,
                on_request=on_request,
                config=dict(config or {}),
                fields=dict(fields or {}),
            )
        )
        if on_request and settings.auto_evict:
            self._stop_other_loads()
            load.evicted = self._evict()
        self._loading[load.identifier] = load
        load.task = self._tasks.spawn(self._load(load), f"load {load.identifier}")
        load.task.add_done_callback(lambda _task: self._loading_ended(load))
        return load

    def _loading_ended(self, load: Load) -> None:
        self._loading.pop(load.identifier, None)
        self._on_change()

    async def _load(self, load: Load) -> Instance:
        began = self._clock.now()
        wanted = load.wanted
        if not self.fits(wanted.model, load):
            raise errors.load_failed(wanted.model.key)
        steps = max(wanted.model.load_steps, 1)
        for step in range(steps):
            await self._gates.checkpoint("loading", step, wanted.model.key)
            await self._clock.sleep(self._settings().pace.load_step)
            if self._settings().load_failure and step == steps // 2:
                raise errors.load_failed(wanted.model.key)
            load.advance((step + 1) / steps)
        load.seconds = self._clock.now() - began
        if wanted.on_request and self._settings().auto_evict:
            self._evict()  # what another request has loaded meanwhile
        return self._made(wanted)

    def fits(self, model: CatalogModel, own: Load | None = None) -> bool:
        """Tell whether the guardrails let a model be loaded beside the others, `own` not counted."""
        memory = self._settings().memory_bytes
        others = [load.model for load in self.loading if load is not own]
        others += [instance.model for instance in self._loaded.values()]
        if len(others) >= MAX_INSTANCES:
            return False
        return memory is None or sum(map(memory_of, [model, *others])) <= memory

    def add(self, model: CatalogModel) -> Instance:
        """Load a model at once, as somebody does by hand: without TTL."""
        return self._made(Wanted(model=model, identifier=self._free_id(model.key)))

    def _made(self, wanted: Wanted) -> Instance:
        config = self._full_config(wanted)
        digest = hashlib.sha256(f"{wanted.model.key}/{next(self._serial)}".encode()).digest()
        instance = Instance(
            id=wanted.identifier,
            model=wanted.model,
            reference=base64.b64encode(digest[:18]).decode("ascii"),
            config=config,
            fields=wanted.fields,
            ttl_s=wanted.ttl_s,
            on_request=wanted.on_request,
            last_used=self._clock.now(),
            slots=asyncio.Semaphore(max(int(config.get("parallel", self._settings().parallel)), 1)),
        )
        self._loaded[instance.id] = instance
        self._on_change()
        return instance

    def _full_config(self, wanted: Wanted) -> dict[str, Any]:
        settings, model = self._settings(), wanted.model
        config: dict[str, Any] = {"context_length": min(settings.context_length, model.max_context_length)}
        if model.kind == "llm":
            config["parallel"] = settings.parallel
        if model.kind == "llm" and model.format == "gguf":  # what only llama.cpp knows (docs: rest/load)
            config |= {"eval_batch_size": 512, "flash_attention": True, "offload_kv_cache_to_gpu": True}
            if model.experts:
                config["num_experts"] = model.experts
        asked = {key: value for key, value in wanted.config.items() if value is not None}
        return config | {key: value for key, value in asked.items() if key in config}

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

    def _stop_other_loads(self) -> None:
        """Stop the loads that other requests have caused, as auto-evict does on a real server."""
        if self._settings().evict_loading:
            for load in self.loading:
                if load.wanted.on_request:
                    load.abort()

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
