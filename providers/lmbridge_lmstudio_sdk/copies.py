"""Copies of models in the server's memory: loaded on purpose, and unloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lmstudio as lms
import msgspec

from lmbridge.catalog import LoadedInstance
from lmbridge.errors import ModelNotFound
from lmbridge_lmstudio_sdk.config import load_config, ttl_seconds
from lmbridge_lmstudio_sdk.connecting import Client, with_client
from lmbridge_lmstudio_sdk.listing import downloaded, loaded_copies
from lmbridge_lmstudio_sdk.loading import Wish, get_ready

if TYPE_CHECKING:
    from lmbridge.context import Context
    from lmbridge.events import Progress
    from lmbridge.operations import LoadRequest, UnloadRequest
    from lmbridge_lmstudio_sdk.jobs import Job

__all__ = ["load", "unload"]

_GONE = "generic.identifierNotFound"


async def load(request: LoadRequest, context: Context, job: Job[Progress | LoadedInstance]) -> None:
    """Load a model, with progress to ``job`` and at last the copy.

    A copy that is loaded with the settings asked for is used. One without ``ttl`` stays until it is unloaded,
    as with LM Studio's own ``lms load``.
    """
    load_config(request.config, request.context_length)  # refuse before anything is opened
    ttl = ttl_seconds(request.ttl, None)

    async def work(client: Client) -> LoadedInstance | None:
        listed = await downloaded(client)
        name = _key_of(request.model, listed)
        embedding = await _is_embedding(client, name, listed)
        config = load_config(request.config, request.context_length, embedding=embedding)
        copies = [copy for copy in await loaded_copies(client) if _is_of(copy, name)]
        for copy in copies:
            if await _is_loaded_so(client, copy, request, config, embedding=embedding):
                return LoadedInstance(
                    id=copy["identifier"], context_length=copy.get("contextLength"), ttl=_ttl(copy)
                )
        if job.stopping:
            return None
        key = str(copies[0].get("modelKey") or name) if copies else name
        ready = await get_ready(client, Wish(key, config, ttl, new=True, embedding=embedding), job, context)
        return LoadedInstance(id=ready.id, context_length=ready.context_length, ttl=ttl)

    copy = await with_client(context, work, repeatable=lambda: not job.spoke and not job.stopping)
    if copy is not None:
        job.put([copy])
    job.finish()


def _is_of(copy: Mapping[str, Any], name: str) -> bool:
    return name in {copy.get("identifier"), copy.get("modelKey")}


def _ttl(copy: Mapping[str, Any]) -> float | None:
    milliseconds = copy.get("ttlMs")
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


def _key_of(name: str, listed: list[Mapping[str, Any]]) -> str:
    """Return the key for the id of a variant, which gave false errors (observed, openclaw#95401)."""
    for item in listed:
        variants = item.get("variants")
        if isinstance(variants, list) and name in variants and name != item.get("modelKey"):
            return str(item.get("modelKey"))
    return name


async def _is_embedding(client: Client, name: str, listed: list[Mapping[str, Any]]) -> bool:
    """Whether the model belongs to the namespace of embedding models."""
    copies = await client.sdk.embedding.remote_call("listLoaded")
    known = [item for item in copies if isinstance(item, Mapping)] if isinstance(copies, list) else []
    return any(_is_of(item, name) and item.get("type") == "embedding" for item in [*listed, *known])


async def _is_loaded_so(
    client: Client, copy: Mapping[str, Any], request: LoadRequest, config: Any, *, embedding: bool
) -> bool:
    """Whether a copy has the settings that are asked for."""
    length = request.context_length
    if length is not None and copy.get("contextLength") != length:
        return False
    if not request.config:
        return True
    handle: Any
    if embedding:
        handle = lms.AsyncEmbeddingModel(copy["identifier"], client.sdk.embedding)
    else:
        handle = lms.AsyncLLM(copy["identifier"], client.sdk.llm)
    try:
        actual = (await handle.get_load_config()).to_dict()
    except msgspec.ValidationError:  # a newer server has values that the SDK does not know
        return False
    return all(actual.get(name) == value for name, value in config.to_dict().items())


async def unload(request: UnloadRequest, context: Context) -> list[str]:
    """Unload a copy, or all copies of a model; return their ids once the server has answered.

    A model that is not loaded needs no unload.

    Raises:
        ModelNotFound: the server knows neither a model nor a copy of that name.
    """

    async def work(client: Client) -> list[str]:
        copies = await loaded_copies(client)
        exact = [copy for copy in copies if copy.get("identifier") == request.model]
        listed = await downloaded(client)
        name = _key_of(request.model, listed)
        # The first copy of a model goes by the model's own name, which means them all.
        chosen = [copy for copy in copies if copy.get("modelKey") == name] or exact
        if not chosen and not any(item.get("modelKey") == name for item in listed):
            names = sorted(copy["identifier"] for copy in copies)
            raise ModelNotFound(
                f"no copy of {request.model!r} is loaded",
                model=request.model,
                hint=f"loaded are {', '.join(names)}" if names else "nothing is loaded",
            )
        return [copy["identifier"] for copy in chosen if await _unload(client, copy)]

    return await with_client(context, work)


async def _unload(client: Client, copy: Mapping[str, Any]) -> bool:
    session: Any = client.sdk.embedding if copy.get("type") == "embedding" else client.sdk.llm
    try:
        await session.unload(copy["identifier"])
    except lms.LMStudioServerError as exc:
        parsed = exc.server_error
        display = parsed.display_data if parsed is not None else None
        if isinstance(display, Mapping) and display.get("code") == _GONE:
            return True  # somebody else was faster
        raise
    return True
