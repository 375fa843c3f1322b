"""The models of a server, by the newest of three routes that it has.

``/api/v1/models`` (0.4.0 and newer) knows everything; ``/api/v0/models`` (0.3.6 and newer) the kind, the
loaded copy and its context; ``/v1/models`` only names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from lmbridge.catalog import Capabilities, LoadedInstance, Model, ModelKind
from lmbridge.chat import ReasoningLevel
from lmbridge.errors import LMBridgeError, ProtocolError
from lmbridge.http import get_json

from .versions import is_missing_route
from .wire import as_dict, as_list, as_text, as_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lmbridge.context import Context

__all__ = ["Entry", "entries", "fetch_models", "instances_of", "key_of", "list_models", "model_of_v1"]

Entry: TypeAlias = "Mapping[str, Any]"

_LEVELS: tuple[ReasoningLevel, ...] = get_args(ReasoningLevel)
_KINDS: dict[str, ModelKind] = {
    "llm": "llm",
    "vlm": "llm",
    "embedding": "embedding",
    "embeddings": "embedding",
}


async def list_models(context: Context) -> tuple[Model, ...]:
    """Return the models with what the server tells of them.

    Raises:
        LMBridgeError: the server answers none of the three routes, or refuses the key.
    """
    return (await fetch_models(context))[1]


async def fetch_models(context: Context) -> tuple[str, tuple[Model, ...]]:
    """Return the route that answered, and its models; see :func:`list_models`."""
    for route, parse in _ROUTES[:-1]:
        try:
            payload = await get_json(context, route)
        except ProtocolError as exc:
            if exc.retryable:  # it broke off: another route would not help
                raise
        except LMBridgeError as exc:
            if not is_missing_route(exc):
                raise
        else:
            return route, _parsed(payload, parse)
    route, parse = _ROUTES[-1]
    return route, _parsed(await get_json(context, route), parse)


async def entries(context: Context) -> list[Entry]:
    """Return the raw entries of ``/api/v1/models``, for what :class:`lmbridge.Model` has no place for.

    Raises:
        LMBridgeError: the server does not answer this route, or refuses the key.
    """
    return _objects(await get_json(context, "/api/v1/models"))


def key_of(entry: Entry) -> str | None:
    """Return the name of an entry: ``key`` on ``/api/v1``, ``id`` on the others."""
    return as_text(entry.get("key")) or as_text(entry.get("id"))


def instances_of(entry: Entry) -> dict[str, Entry]:
    """Return the load settings of the loaded copies by the copies' ids."""
    copies = [as_dict(copy) for copy in as_list(entry.get("loaded_instances"))]
    return {name: as_dict(copy.get("config")) for copy in copies if (name := as_text(copy.get("id")))}


def _parsed(payload: Any, parse: Callable[[Entry, str], Model]) -> tuple[Model, ...]:
    return tuple(parse(entry, key) for entry in _objects(payload) if (key := key_of(entry)))


def _objects(payload: Any) -> list[Entry]:
    body = as_dict(payload)
    listed = body.get("models") if "models" in body else body.get("data")
    return [entry for entry in as_list(listed) if isinstance(entry, dict)]


def model_of_v1(entry: Entry, key: str) -> Model:
    """Return an entry of ``/api/v1/models`` as a model (docs, rest/list)."""
    return Model(
        id=key,
        kind=_KINDS.get(str(entry.get("type")), "other"),
        display_name=as_text(entry.get("display_name")),
        publisher=as_text(entry.get("publisher")),
        architecture=as_text(entry.get("architecture")),
        quantization=as_text(as_dict(entry.get("quantization")).get("name")),
        parameters=as_text(entry.get("params_string")),
        format=as_text(entry.get("format")),
        size_bytes=as_whole(entry.get("size_bytes")),
        max_context_length=as_whole(entry.get("max_context_length")),
        load_evicts=True,  # observed, lmstudio-bug-tracker#1796
        loaded=_loaded(entry),
        capabilities=_capabilities(entry.get("capabilities")),
        aliases=_aliases(entry, key),
    )


def _loaded(entry: Entry) -> tuple[LoadedInstance, ...] | None:
    if not isinstance(entry.get("loaded_instances"), list):
        return None
    return tuple(
        LoadedInstance(
            id=name,
            context_length=as_whole(config.get("context_length")),
            parallel=as_whole(config.get("parallel")) or None,
        )
        for name, config in instances_of(entry).items()
    )


def _capabilities(told: Any) -> Capabilities:
    """Return the capabilities of a model. Embedding models have none to tell of."""
    if not isinstance(told, dict):
        return Capabilities()
    vision = told.get("vision")
    reasoning = told.get("reasoning")
    return Capabilities(
        images=vision if isinstance(vision, bool) else None,
        # A model that was not trained for tools may still be given some; LM Studio then explains them to it.
        tools=True if told.get("trained_for_tool_use") is True else None,
        # The key is absent where the model exposes no reasoning setting.
        reasoning=isinstance(reasoning, dict),
        reasoning_levels=_levels(reasoning),
    )


def _levels(reasoning: Any) -> tuple[ReasoningLevel, ...] | None:
    if not isinstance(reasoning, dict):
        return ()
    options = reasoning.get("allowed_options")
    if not isinstance(options, list):
        return None
    return tuple(level for level in options if level in _LEVELS)


def _aliases(entry: Entry, key: str) -> tuple[str, ...]:
    """Return the ids of the variants, the selected one first."""
    told = (entry.get("selected_variant"), *as_list(entry.get("variants")))
    names = dict.fromkeys(name for value in told if (name := as_text(value)))
    return tuple(name for name in names if name != key)


def _model_of_v0(entry: Entry, key: str) -> Model:
    """Return an entry of ``/api/v0/models`` as a model (docs, rest/endpoints)."""
    told = entry.get("type")
    copy = LoadedInstance(id=key, context_length=as_whole(entry.get("loaded_context_length")))
    return Model(
        id=key,
        kind=_KINDS.get(str(told), "other"),
        publisher=as_text(entry.get("publisher")),
        architecture=as_text(entry.get("arch")),
        quantization=as_text(entry.get("quantization")),
        format=as_text(entry.get("compatibility_type")),
        max_context_length=as_whole(entry.get("max_context_length")),
        load_evicts=True,  # observed, lmstudio-bug-tracker#1796
        loaded={"loaded": (copy,), "not-loaded": ()}.get(str(entry.get("state"))),
        capabilities=Capabilities(
            images={"vlm": True, "llm": False}.get(str(told)),
            tools=True if "tool_use" in as_list(entry.get("capabilities")) else None,
        ),
    )


def _model_of_compat(_entry: Entry, key: str) -> Model:
    """Return an entry of ``/v1/models``, which tells nothing but the name."""
    # LM Studio's own names for embedding models begin so; the route does not tell kinds apart.
    return Model(id=key, kind="embedding" if key.startswith("text-embedding-") else "llm")


_ROUTES: tuple[tuple[str, Callable[[Entry, str], Model]], ...] = (
    ("/api/v1/models", model_of_v1),
    ("/api/v0/models", _model_of_v0),
    ("/v1/models", _model_of_compat),
)
