"""Model metadata of the various servers, as :class:`~lmbridge.catalog.Model`. Nothing here raises."""

from collections.abc import Iterable
from typing import Any, get_args

from lmbridge.catalog import Capabilities, LoadedInstance, Model, ModelKind
from lmbridge.chat import ReasoningLevel

__all__ = ["any_server", "llamacpp", "lmstudio_v0", "lmstudio_v1", "ollama", "openai", "vllm"]

_LEVELS: tuple[ReasoningLevel, ...] = get_args(ReasoningLevel)
#: Begins of names in OpenAI's list that are no chat models.
_NOT_CHAT = (
    "whisper",
    "tts",
    "dall-e",
    "gpt-image",
    "omni-moderation",
    "text-moderation",
    "sora",
    "babbage",
    "davinci",
)
#: LM Studio's requests with pictures stall each other (observed, lmstudio-bug-tracker#1654, #1487).
_ONE_PICTURE = 1


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _kind(name: str) -> ModelKind:
    return "embedding" if "embed" in name.lower() else "llm"


def any_server(entry: dict[str, Any]) -> Model:
    """Read an entry of ``/v1/models`` with the fields that OpenRouter and others add."""
    architecture = _dict(entry.get("architecture"))
    outputs = _texts(architecture.get("output_modalities"))
    inputs = architecture.get("input_modalities")
    parameters = entry.get("supported_parameters")
    return Model(
        id=entry["id"],
        kind="other" if outputs and "text" not in outputs else _kind(entry["id"]),
        display_name=_text(entry.get("name")),
        max_context_length=_number(entry.get("context_length")) or _number(entry.get("context_window")),
        capabilities=Capabilities(
            images="image" in inputs if isinstance(inputs, list) else None,
            tools="tools" in parameters if isinstance(parameters, list) else None,
            structured_output=_structured(parameters),
            reasoning="reasoning" in parameters if isinstance(parameters, list) else None,
        ),
    )


def _structured(parameters: Any) -> bool | None:
    if not isinstance(parameters, list):
        return None
    return "structured_outputs" in parameters or "response_format" in parameters


def openai(entry: dict[str, Any]) -> Model:
    """Read an entry of OpenAI's list, which holds names only."""
    name = entry["id"]
    kind: ModelKind = "other" if name.startswith(_NOT_CHAT) else _kind(name)
    return Model(id=name, kind=kind, publisher=_text(entry.get("owned_by")))


def vllm(entry: dict[str, Any]) -> Model:
    """Read an entry of vLLM, which serves what it lists."""
    length = _number(entry.get("max_model_len"))
    return Model(
        id=entry["id"],
        kind=_kind(entry["id"]),
        max_context_length=length,
        loaded=(LoadedInstance(id=entry["id"], context_length=length),),
        aliases=tuple(text for text in [_text(entry.get("root"))] if text and text != entry["id"]),
    )


def llamacpp(entries: Iterable[dict[str, Any]], payload: Any, properties: Any) -> tuple[Model, ...]:
    """Read llama.cpp's list (``meta``, and ``models`` with capabilities) and its ``/props``."""
    details = {
        _text(item.get("model")) or _text(item.get("name")): item
        for item in _dicts(_dict(payload).get("models"))
    }
    return tuple(_llamacpp(entry, _dict(details.get(entry["id"])), _dict(properties)) for entry in entries)


def _llamacpp(entry: dict[str, Any], details: dict[str, Any], properties: dict[str, Any]) -> Model:
    meta, listed = _dict(entry.get("meta")), _texts(details.get("capabilities"))
    modalities = _dict(properties.get("modalities"))
    sees = modalities.get("vision") if modalities else ("multimodal" in listed if listed else None)
    context = _number(_dict(properties.get("default_generation_settings")).get("n_ctx")) or _number(
        meta.get("n_ctx")
    )
    state = _text(_dict(entry.get("status")).get("value"))
    copy = LoadedInstance(
        id=entry["id"], context_length=context, parallel=_number(properties.get("total_slots"))
    )
    parameters = _number(meta.get("n_params"))
    return Model(
        id=entry["id"],
        kind=_kind(entry["id"]),
        format="gguf",
        parameters=f"{parameters / 1e9:.1f}B" if parameters else None,
        size_bytes=_number(meta.get("size")),
        max_context_length=_number(meta.get("n_ctx_train")),
        loaded=(copy,) if state in {None, "loaded"} else (),
        capabilities=Capabilities(images=sees if isinstance(sees, bool) else None),
        aliases=tuple(_texts(entry.get("aliases"))),
    )


def ollama(entries: Iterable[dict[str, Any]], tags: Any, running: Any) -> tuple[Model, ...]:
    """Read Ollama's list with ``/api/tags`` (details, capabilities) and ``/api/ps`` (what is loaded)."""
    details = {_text(item.get("name")): item for item in _dicts(_dict(tags).get("models"))}
    copies = {_text(item.get("name")): item for item in _dicts(_dict(running).get("models"))}
    known = isinstance(running, dict)
    return tuple(
        _ollama(entry["id"], details.get(entry["id"], {}), copies.get(entry["id"]), known=known)
        for entry in entries
    )


def _ollama(name: str, item: dict[str, Any], copy: dict[str, Any] | None, *, known: bool) -> Model:
    details, abilities = _dict(item.get("details")), item.get("capabilities")
    can = set(_texts(abilities)) if isinstance(abilities, list) and abilities else None
    loaded = (LoadedInstance(id=name, context_length=_number(copy.get("context_length"))),) if copy else ()
    embeds = "embedding" in can if can is not None else _kind(name) == "embedding"
    return Model(
        id=name,
        kind="embedding" if embeds else "llm",
        architecture=_text(details.get("family")),
        quantization=_text(details.get("quantization_level")),
        parameters=_text(details.get("parameter_size")),
        format=_text(details.get("format")),
        size_bytes=_number(item.get("size")),
        loaded=loaded if known else None,
        capabilities=Capabilities(
            images=None if can is None else "vision" in can,
            tools=None if can is None else "tools" in can,
            reasoning=None if can is None else "thinking" in can,
        ),
        aliases=(name.removesuffix(":latest"),) if name.endswith(":latest") else (),
    )


def lmstudio_v1(payload: Any) -> tuple[Model, ...]:
    """Read LM Studio's ``/api/v1/models`` (LM Studio docs, rest/list)."""
    items = _dicts(_dict(payload).get("models"))
    return tuple(_lmstudio_v1(item) for item in items if _text(item.get("key")))


def _lmstudio_v1(item: dict[str, Any]) -> Model:
    abilities, reasoning = _dict(item.get("capabilities")), None
    if abilities:
        reasoning = _dict(abilities.get("reasoning"))
    copies = [_copy(copy) for copy in _dicts(item.get("loaded_instances")) if _text(copy.get("id"))]
    return Model(
        id=item["key"],
        kind=_lmstudio_kind(item.get("type")),
        display_name=_text(item.get("display_name")),
        publisher=_text(item.get("publisher")),
        architecture=_text(item.get("architecture")),
        quantization=_text(_dict(item.get("quantization")).get("name")),
        parameters=_text(item.get("params_string")),
        format=_text(item.get("format")),
        size_bytes=_number(item.get("size_bytes")),
        max_context_length=_number(item.get("max_context_length")),
        loaded=tuple(copies),
        capabilities=Capabilities(
            images=_flag(abilities.get("vision")),
            # Without training for it, LM Studio still offers tools through the prompt.
            tools=True if abilities.get("trained_for_tool_use") is True else None,
            reasoning=None if reasoning is None else bool(reasoning),
            reasoning_levels=_levels(reasoning),
        ),
        image_concurrency=_ONE_PICTURE,
        load_evicts=True,  # observed, lmstudio-bug-tracker#1796
        aliases=tuple(_texts(item.get("variants"))),
    )


def _lmstudio_kind(value: Any) -> ModelKind:
    if value in ("llm", "vlm"):
        return "llm"
    return "embedding" if value in ("embedding", "embeddings") else "other"


def _copy(item: dict[str, Any]) -> LoadedInstance:
    config = _dict(item.get("config"))
    return LoadedInstance(
        id=item["id"],
        context_length=_number(config.get("context_length")),
        parallel=_number(config.get("parallel")),
    )


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _levels(reasoning: dict[str, Any] | None) -> tuple[ReasoningLevel, ...] | None:
    if not reasoning:
        return None
    allowed = _texts(reasoning.get("allowed_options"))
    return tuple(level for level in _LEVELS if level in allowed) or None


def lmstudio_v0(payload: Any) -> tuple[Model, ...]:
    """Read LM Studio's older ``/api/v0/models`` (LM Studio docs, rest/endpoints)."""
    items = _dicts(_dict(payload).get("data"))
    return tuple(_lmstudio_v0(item) for item in items if _text(item.get("id")))


def _lmstudio_v0(item: dict[str, Any]) -> Model:
    is_loaded = item.get("state") == "loaded"
    copy = LoadedInstance(id=item["id"], context_length=_number(item.get("loaded_context_length")))
    abilities = _texts(item.get("capabilities"))
    return Model(
        id=item["id"],
        kind=_lmstudio_kind(item.get("type")),
        publisher=_text(item.get("publisher")),
        architecture=_text(item.get("arch")),
        quantization=_text(item.get("quantization")),
        format=_text(item.get("compatibility_type")),
        max_context_length=_number(item.get("max_context_length")),
        loaded=(copy,) if is_loaded else (),
        capabilities=Capabilities(
            images=item.get("type") == "vlm" if _lmstudio_kind(item.get("type")) == "llm" else None,
            tools=True if "tool_use" in abilities else None,
        ),
        image_concurrency=_ONE_PICTURE,
        load_evicts=True,  # observed, lmstudio-bug-tracker#1796
    )
