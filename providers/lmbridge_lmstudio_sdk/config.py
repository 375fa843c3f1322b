"""Options in the SDK's form.

The SDK drops keys that it does not know without a word, so every key is checked here.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import lmstudio as lms
import msgspec

from lmbridge.errors import InvalidRequest, UnsupportedFeature, near_matches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmbridge.chat import Options, Request, ResponseFormat, Tool
    from lmbridge.context import Context
    from lmbridge_lmstudio_sdk.guarded import Field

__all__ = [
    "OPTIONS",
    "REASONING_LEVELS",
    "PredictionSettings",
    "load_config",
    "prediction_settings",
    "ttl_seconds",
]

#: Options with a public place in the SDK.
_PUBLIC = {
    "temperature": "temperature",
    "top_p": "topPSampling",
    "top_k": "topKSampling",
    "min_p": "minPSampling",
    "max_tokens": "maxTokens",
    "stop": "stopStrings",
    "repeat_penalty": "repeatPenalty",
    "draft_model": "draftModel",
}
#: Options that only the server knows; keys of lmstudio-js ``lms-kv-config``. All are numbers with a switch.
_SWITCHED = {
    "seed": "llm.prediction.seed",
    "presence_penalty": "llm.prediction.llama.presencePenalty",
    "frequency_penalty": "llm.prediction.llama.frequencyPenalty",
}
_THINKING = "llm.prediction.reasoning.enableThinking"
REASONING_LEVELS = {"off": False, "on": True}
_LOAD = ("context_length", "ttl", "load")
#: What :class:`lmbridge.ProviderInfo` tells the core.
OPTIONS = frozenset({*_PUBLIC, *_SWITCHED, *_LOAD, "reasoning", "extra"})

_SERVER_KEY = "llm.prediction."
#: Keys of the SDK that `extra` must not set, and what to use instead.
_OWN = {"rawTools": "Request.tools", "raw": "the server's own keys (llm.prediction.…)"}


class PredictionSettings(NamedTuple):
    """How to predict: what the SDK takes, what goes past it, and the form of the answer."""

    config: lms.LlmPredictionConfig
    fields: tuple[Field, ...]
    response_format: dict[str, Any] | None


def prediction_settings(request: Request, context: Context) -> PredictionSettings:
    """Return the settings of a prediction.

    Raises:
        UnsupportedFeature: an option that cannot be sent, unless the request says ``"adapt"``.
        InvalidRequest: a value that the SDK refuses.
    """
    options = request.options
    config = {
        name: list(value) if isinstance(value, tuple) else value
        for option, name in _PUBLIC.items()
        if (value := getattr(options, option)) is not None and value != ()
    }
    if config.get("maxTokens") == -1:
        del config["maxTokens"]
    extra, fields = _extra(options.extra or {})
    if request.response_format is not None and "structured" in extra:
        raise InvalidRequest("the form of the answer is given twice, by response_format and by extra")
    fields += _switched(options)
    fields += _thinking(request, context)
    fields += _tools(request, context)
    return PredictionSettings(
        _as_struct(lms.LlmPredictionConfig, config | extra),
        tuple(fields),
        _response_format(request.response_format),
    )


def _extra(extra: Mapping[str, Any]) -> tuple[dict[str, Any], list[Field]]:
    """Return the provider's own settings: those of the SDK, and those of the server by their full keys."""
    fields = [(key, value) for key, value in extra.items() if key.startswith(_SERVER_KEY)]
    rest = {key: value for key, value in extra.items() if not key.startswith(_SERVER_KEY)}
    known = _known_keys(lms.LlmPredictionConfigDict) - _OWN.keys()
    return _checked("extra", rest, known), fields


def _switched(options: Options) -> list[Field]:
    values = ((key, getattr(options, option)) for option, key in _SWITCHED.items())
    return [(key, {"checked": True, "value": value}) for key, value in values if value is not None]


def _thinking(request: Request, context: Context) -> list[Field]:
    level = request.options.reasoning
    if level is None:
        return []
    if level in REASONING_LEVELS:
        return [(_THINKING, REASONING_LEVELS[level])]
    why = f"the LM Studio SDK can only turn reasoning 'on' or 'off', not set the level {level!r}"
    if request.on_unsupported != "adapt":
        raise UnsupportedFeature(
            why, features=["reasoning"], hint="use the provider lmstudio-rest or openai-compat"
        )
    context.note(f"left out: {why}")
    return []


def _tools(request: Request, context: Context) -> list[Field]:
    """Return the tools as the server takes them.

    The SDK's own struct for them keeps four keys of a schema and drops the others, ``$defs`` among them.
    """
    choice = request.tool_choice
    tools = [tool for tool in request.tools if choice in {None, "auto", "required", tool.name}]
    if request.tools and not tools:
        context.note("tool_choice 'none': the tools were not shown to the model")
    if not tools:
        return []
    value: dict[str, Any] = {"type": "toolArray", "tools": [_tool(tool) for tool in tools]}
    if choice in {None, "auto"}:
        return [("llm.prediction.tools", value)]
    forced = ("llm.prediction.toolChoice", {"type": "generic", "mode": "required"})
    return [("llm.prediction.tools", value | {"force": True}), forced]


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _response_format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    return {
        "type": "json",
        "jsonSchema": dict(wanted.schema) if wanted.schema is not None else {"type": "object"},
    }


def load_config(
    config: Mapping[str, Any] | None, context_length: int | None, *, embedding: bool = False
) -> lms.LlmLoadModelConfig | lms.EmbeddingLoadModelConfig | None:
    """Return the settings of a load, or ``None`` if there are none: the server's own then hold.

    Any setting of ``gpu`` also sends a split over several cards that overrides the server's, so nothing of it
    is sent unless it is asked for.

    Raises:
        UnsupportedFeature: a key that the SDK does not know.
        InvalidRequest: a value that the SDK refuses, or the context length twice.
    """
    form = lms.EmbeddingLoadModelConfigDict if embedding else lms.LlmLoadModelConfigDict
    values = _checked("load", config or {}, _known_keys(form))
    if context_length is not None:
        if values.get("contextLength", context_length) != context_length:
            raise InvalidRequest("the context length is given twice, with different values")
        values["contextLength"] = context_length
    if not values:
        return None
    kind: Any = lms.EmbeddingLoadModelConfig if embedding else lms.LlmLoadModelConfig
    made: lms.LlmLoadModelConfig | lms.EmbeddingLoadModelConfig = _as_struct(kind, values)
    return made


def ttl_seconds(ttl: float | None, default: int | None) -> int | None:
    """Return a time to live in whole seconds, as the SDK takes it.

    Raises:
        InvalidRequest: it is not above 0.
    """
    if ttl is None:
        return default
    if not ttl > 0 or not math.isfinite(ttl):
        raise InvalidRequest(f"ttl must be seconds above 0, not {ttl!r}", hint="leave it out for the default")
    return math.ceil(ttl)


def _known_keys(form: Any) -> frozenset[str]:
    return frozenset(form.__annotations__)


def _checked(option: str, values: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return ``values`` with their keys in the SDK's camel case."""
    for written in values:
        key = _camel(written)
        if key in known:
            continue
        close = near_matches(key, known)
        hint = (
            f"use {_OWN[key]} for it"
            if key in _OWN
            else f"did you mean {', '.join(close)}?"
            if close
            else None
        )
        raise UnsupportedFeature(
            f"the LM Studio SDK has no setting {written!r}",
            features=[option],
            hint=hint or f"it has {', '.join(sorted(known))}",
        )
    return {_camel(key): value for key, value in values.items()}


def _camel(key: str) -> str:
    camel = re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), key)
    return camel.replace("KvCache", "KVCache")


def _as_struct(kind: Any, values: dict[str, Any]) -> Any:
    try:
        return kind.from_dict(values)
    except (msgspec.ValidationError, lms.LMStudioValueError) as exc:
        raise InvalidRequest(f"the LM Studio SDK refuses a setting: {exc}") from exc
