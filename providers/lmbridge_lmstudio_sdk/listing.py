"""What the server has: by REST where it can, else by the SDK's own lists.

REST ``/api/v1/models`` (LM Studio 0.4.0 and later) tells more: what reasoning a model allows, its slots, its
variants. The SDK's typed lists fail as a whole on one entry of a type that they do not know (observed), so
their raw form is read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import lmstudio as lms

from lmbridge import http
from lmbridge.catalog import Capabilities, LoadedInstance, Model, ModelKind
from lmbridge.errors import AuthenticationFailed, LMBridgeError, ProtocolError, ServerUnreachable, TimedOut
from lmbridge_lmstudio_sdk.config import REASONING_LEVELS
from lmbridge_lmstudio_sdk.connecting import Client, with_client

if TYPE_CHECKING:
    from lmbridge.chat import ReasoningLevel
    from lmbridge.context import Context

__all__ = ["downloaded", "list_models", "loaded_copies", "server_version"]

_log = logging.getLogger(__name__)

_KINDS: dict[str, ModelKind] = {
    "llm": "llm",
    "vlm": "llm",
    "embedding": "embedding",
    "embeddings": "embedding",
}


async def list_models(context: Context) -> list[Model]:
    """Return the server's models."""
    try:
        listed = await http.get_json(context, "/api/v1/models")
        return [_of_rest(item) for item in _objects(listed.get("models"))]
    except (AuthenticationFailed, ServerUnreachable, TimedOut):
        raise
    except (LMBridgeError, AttributeError) as exc:
        _log.debug("no REST listing (%s), asking the SDK", exc)
    return await with_client(context, _by_sdk)


def _objects(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise ProtocolError("the server's listing is no list")
    return [item for item in value if isinstance(item, Mapping)]


# -- REST --------------------------------------------------------------------------------------------------


def _of_rest(item: Mapping[str, Any]) -> Model:
    quantization = item.get("quantization")
    copies = item.get("loaded_instances")
    variants = item.get("variants")
    return Model(
        id=str(item.get("key")),
        kind=_KINDS.get(str(item.get("type")), "other"),
        display_name=_text(item.get("display_name")),
        publisher=_text(item.get("publisher")),
        architecture=_text(item.get("architecture")),
        quantization=_text(quantization.get("name")) if isinstance(quantization, Mapping) else None,
        parameters=_text(item.get("params_string")),
        format=_text(item.get("format")),
        size_bytes=_int(item.get("size_bytes")),
        max_context_length=_int(item.get("max_context_length")),
        load_evicts=True,  # observed, lmstudio-bug-tracker#1796
        loaded=tuple(map(_copy_of_rest, _objects(copies))) if isinstance(copies, list) else None,
        capabilities=_capabilities_of_rest(item),
        aliases=tuple(name for name in variants if isinstance(name, str))
        if isinstance(variants, list)
        else (),
    )


def _copy_of_rest(item: Mapping[str, Any]) -> LoadedInstance:
    config = item.get("config")
    config = config if isinstance(config, Mapping) else {}
    return LoadedInstance(
        id=str(item.get("id")),
        context_length=_int(config.get("context_length")),
        parallel=_int(config.get("parallel")),
    )


def _capabilities_of_rest(item: Mapping[str, Any]) -> Capabilities:
    told = item.get("capabilities")
    if not isinstance(told, Mapping):
        return _capabilities(item.get("type"), None, None)
    reasoning = told.get("reasoning")
    levels = reasoning.get("allowed_options") if isinstance(reasoning, Mapping) else None
    return _capabilities(
        item.get("type"),
        told.get("vision"),
        told.get("trained_for_tool_use"),
        reasoning=isinstance(reasoning, Mapping),
        levels=tuple(level for level in REASONING_LEVELS if level in levels)
        if isinstance(levels, list)
        else None,
    )


def _capabilities(
    kind: Any,
    vision: Any,
    tools: Any,
    *,
    reasoning: bool | None = None,
    levels: tuple[str, ...] | None = None,
) -> Capabilities:
    chats = _KINDS.get(str(kind)) == "llm"
    return Capabilities(
        images=vision if isinstance(vision, bool) else None if chats else False,
        # A model that was not trained for tools may use them all the same.
        tools=True if tools is True else None if chats else False,
        structured_output=chats,
        reasoning=reasoning,
        reasoning_levels=cast("tuple[ReasoningLevel, ...] | None", levels),
        history=chats,
        conversation=False,
        integrations=False,
    )


# -- the SDK -----------------------------------------------------------------------------------------------


async def _by_sdk(client: Client) -> list[Model]:
    copies = await loaded_copies(client)
    known = await downloaded(client)
    models = [_of_sdk(item, copies) for item in known if isinstance(item.get("modelKey"), str)]
    names = {model.id for model in models}
    alone = {str(copy["modelKey"]): copy for copy in copies if copy.get("modelKey") not in names}
    return models + [_of_sdk(copy, copies) for copy in alone.values()]


async def downloaded(client: Client) -> list[Mapping[str, Any]]:
    """Return the models that the server has, as it describes them; empty if it does not tell."""
    try:
        return _objects(await client.sdk.system.remote_call("listDownloadedModels"))
    except lms.LMStudioServerError as exc:
        _log.debug("no list of downloaded models: %s", type(exc).__name__)
        return []


async def loaded_copies(client: Client) -> list[Mapping[str, Any]]:
    """Return the loaded copies of both namespaces, as the server describes them."""
    found: list[Mapping[str, Any]] = []
    for session in (client.sdk.llm, client.sdk.embedding):
        listed = _objects(await session.remote_call("listLoaded"))
        found += [item for item in listed if isinstance(item.get("identifier"), str)]
    return found


def _of_sdk(item: Mapping[str, Any], copies: list[Mapping[str, Any]]) -> Model:
    quantization, variants = item.get("quantization"), item.get("variants")
    return Model(
        id=str(item["modelKey"]),
        kind=_KINDS.get(str(item.get("type")), "other"),
        display_name=_text(item.get("displayName")),
        publisher=_text(item.get("publisher")),
        architecture=_text(item.get("architecture")),
        quantization=_text(quantization.get("name")) if isinstance(quantization, Mapping) else None,
        parameters=_text(item.get("paramsString")),
        format=_text(item.get("format")),
        size_bytes=_int(item.get("sizeBytes")),
        max_context_length=_int(item.get("maxContextLength")),
        load_evicts=True,  # observed, lmstudio-bug-tracker#1796
        loaded=tuple(_copy_of_sdk(copy) for copy in copies if copy.get("modelKey") == item["modelKey"]),
        capabilities=_capabilities(item.get("type"), item.get("vision"), item.get("trainedForToolUse")),
        aliases=tuple(name for name in variants if isinstance(name, str))
        if isinstance(variants, list)
        else (),
    )


def _copy_of_sdk(item: Mapping[str, Any]) -> LoadedInstance:
    ttl = _int(item.get("ttlMs"))
    return LoadedInstance(
        id=str(item["identifier"]),
        context_length=_int(item.get("contextLength")),
        ttl=None if ttl is None else ttl / 1000,
    )


async def server_version(client: Client) -> str:
    """Return the server's version, or ``""`` if it does not tell."""
    try:
        told = await client.sdk.system.remote_call("version")
    except lms.LMStudioServerError:
        return ""
    return str(told.get("version") or "") if isinstance(told, Mapping) else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _int(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
