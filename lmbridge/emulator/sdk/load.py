"""The channels that load and download models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import WITNESSES, known
from lmbridge.emulator.sdk.info import fields_of, instance_info, load_options, model_info

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.instances import Instance, Load
    from lmbridge.emulator.sdk.channel import Channel


@known(
    "proved",
    WITNESSES,
    "Returns a loaded instance, whatever configuration is asked for, else loads one with progress.",
)
@known("documented", "lmstudio-js, LoadChannel", "Others that were loaded so are named as they are unloaded.")
@known(
    "proved",
    WITNESSES,
    "A `cancel` of the client stops the load.",
)
async def get_or_load(channel: Channel) -> None:
    """`getOrLoad`: return a loaded model, else load it as one that a request named."""
    instances = channel.peer.core.instances
    key = channel.parameter.get("identifier")
    if not isinstance(key, str):
        raise EmulatedError("Invalid parameter: 'identifier' is required")
    ready = instances.find_loaded(key)
    if ready is not None:
        _check_kind(channel, ready.model)
        instances.touch(ready)
        channel.peer.record.model = ready.model.key
        await channel.send("alreadyLoaded", info=instance_info(ready, channel.peer.core.clock))
        return
    model = _model(channel, key)
    ttl = _milliseconds(channel.parameter.get("loadTtlMs"))
    stack = channel.parameter.get("loadConfigStack")
    load = instances.begin_load(
        model, ttl_s=ttl, on_request=True, config=load_options(stack), fields=fields_of(stack)
    )
    for evicted in load.evicted:
        await channel.send("unloadingOtherJITModel", info=instance_info(evicted, channel.peer.core.clock))
    await channel.send("startLoading", identifier=load.identifier, info=model_info(model))
    instance = await _watch(channel, load, "loadProgress")
    await channel.send("loadSuccess", info=instance_info(instance, channel.peer.core.clock))


@known(
    "proved",
    WITNESSES,
    "Always loads a new instance, by default `key`, `key:2`, ...",
)
async def load_model(channel: Channel) -> None:
    """`loadModel`: always a new instance."""
    instances = channel.peer.core.instances
    key, identifier = channel.parameter.get("modelKey"), channel.parameter.get("identifier")
    if not isinstance(key, str):
        raise EmulatedError("Invalid parameter: 'modelKey' is required")
    if identifier is not None and any(entry.id == identifier for entry in instances.loaded()):
        raise EmulatedError(f"A model with identifier '{identifier}' is already loaded.")
    model = _model(channel, key)
    await channel.send("resolved", info=model_info(model))
    ttl = _milliseconds(channel.parameter.get("ttlMs"))
    stack = channel.parameter.get("loadConfigStack")
    load = instances.begin_load(
        model, identifier=identifier, ttl_s=ttl, config=load_options(stack), fields=fields_of(stack)
    )
    instance = await _watch(channel, load, "progress")
    await channel.send("success", info=instance_info(instance, channel.peer.core.clock))


@known("documented", "lmstudio-js, RepositoryPort", "Downloads a model with progress.")
async def download_model(channel: Channel) -> None:
    """`downloadModel` of the repository."""
    core = channel.peer.core
    model = core.downloads.find(str(channel.parameter.get("downloadIdentifier")))
    job = core.downloads.start(model)
    if job is not None:
        channel.on_stop(lambda _reason: core.downloads.cancel(job))
        channel.peer.record.enter("downloading")
        async for _fraction in core.downloads.watch(job):
            await channel.send("downloadProgress", update=core.downloads.progress(job))
        if job.status == "failed":
            if job.cancelled:
                channel.peer.record.end("cancelled", "cancelled")
            raise EmulatedError(f"Download of {model.key!r} {'was canceled' if job.cancelled else 'failed'}.")
        await channel.send("startFinalizing")
    await channel.send("success", defaultIdentifier=model.key)


def _check_kind(channel: Channel, model: CatalogModel) -> None:
    if model.kind != channel.peer.kind:
        raise errors.domain_mismatch(model.key, model.kind, channel.peer.kind)


def _model(channel: Channel, key: str) -> CatalogModel:
    instances = channel.peer.core.instances
    model = instances.find_model(key)
    if model is None:
        raise errors.unknown_model(
            key, [entry.key for entry in instances.downloaded(channel.peer.kind)], jit=True
        )
    _check_kind(channel, model)
    channel.peer.record.model = model.key
    return model


def _milliseconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 1:
        raise EmulatedError("Invalid TTL: expected a number of milliseconds of at least 1")
    return value / 1000


async def _watch(channel: Channel, load: Load, packet: str) -> Instance:
    """Report progress until the model is loaded; a cancel of the client, or its loss, stops the load."""
    record = channel.peer.record
    record.enter("loading")
    stopped: list[str] = []

    def stop(reason: str) -> None:
        if reason == "socket closed" and channel.peer.core.settings.load_survives_disconnect:
            return
        stopped.append(reason)
        load.cancel()

    channel.on_stop(stop)
    try:
        return await load.watch(lambda fraction: channel.send(packet, progress=fraction))
    except EmulatedError:
        if stopped:
            record.end("cancelled", stopped[0])
        raise
