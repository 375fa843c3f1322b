"""The remote calls of the SDK's websockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, pictures, tokens
from lmbridge.emulator.conversation import formatted
from lmbridge.emulator.embedding import embed
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import WITNESSES, known
from lmbridge.emulator.sdk.channel import Peer
from lmbridge.emulator.sdk.info import PREDICTION_DEFAULTS, as_pairs, instance_info, load_config, model_info
from lmbridge.emulator.sdk.request import conversation

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.instances import Instance

Call = Callable[[Peer, Any], Awaitable[Any]]


def _of(parameter: Any, key: str, kind: type = str) -> Any:
    value = parameter.get(key) if isinstance(parameter, dict) else None
    if not isinstance(value, kind):
        raise EmulatedError(f"Invalid parameter: '{key}' is required")
    return value


def _instance(peer: Peer, parameter: Any, key: str = "specifier") -> Instance:
    instance = peer.core.instances.by_specifier(_of(parameter, key, dict), peer.kind)
    peer.core.instances.touch(instance)
    return instance


@known("documented", "lmstudio-js, SystemPort", "Lists the downloaded models.")
async def list_downloaded(peer: Peer, _parameter: Any) -> list[dict[str, Any]]:
    """`listDownloadedModels`."""
    listing = [model_info(model) for model in peer.core.instances.downloaded()]
    if peer.core.settings.unknown_model_type:
        listing.append({**listing[0], "type": "imageGen", "modelKey": "acme/painter"})
    return listing


@known("documented", "lmstudio-js, 2.0", "Lists the variants of a model.")
async def list_variants(peer: Peer, parameter: Any) -> list[dict[str, Any]]:
    """`listDownloadedModelVariants`: the variants of one model (lmstudio-js 2.0)."""
    model = _model(peer, _of(parameter, "modelKey"))
    return [{**model_info(model), "modelKey": variant} for variant in model.variants or (model.key,)]


def _model(peer: Peer, key: str) -> CatalogModel:
    model = peer.core.instances.find_model(key)
    if model is None:
        known = [entry.key for entry in peer.core.instances.downloaded()]
        raise errors.unknown_model(key, known, jit=True)
    return model


@known("documented", "lmstudio-js, SystemPort", "Tells version and build.")
async def version(peer: Peer, _parameter: Any) -> dict[str, Any]:
    """`version`."""
    return {"version": peer.core.settings.version, "build": 1}


@known("documented", "lmstudio-js, SystemPort", "Tells process and version.")
async def info(peer: Peer, _parameter: Any) -> dict[str, Any]:
    """`info`."""
    return {"pid": 1, "isDaemon": False, "version": peer.core.settings.version}


@known("documented", "lmstudio-js, model namespaces", "Lists the loaded instances of the namespace.")
async def list_loaded(peer: Peer, _parameter: Any) -> list[dict[str, Any]]:
    """`listLoaded`."""
    return [instance_info(instance, peer.core.clock) for instance in peer.core.instances.loaded(peer.kind)]


@known(
    "documented", "lmstudio-js, model namespaces", "Shows the instance that a specifier means, or nothing."
)
async def get_model_info(peer: Peer, parameter: Any) -> dict[str, Any] | None:
    """`getModelInfo`."""
    try:
        found = peer.core.instances.by_specifier(_of(parameter, "specifier", dict), peer.kind)
    except EmulatedError:
        if parameter.get("throwIfNotFound"):
            raise
        return None
    return instance_info(found, peer.core.clock)


@known(
    "documented", "lmstudio-js, lms-kv-config", "Shows the configuration with which an instance was loaded."
)
async def get_load_config(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`getLoadConfig`."""
    return load_config(_instance(peer, parameter))


@known("documented", "lmstudio-js, 2.0, lms-kv-config", "Shows what applies where a request says nothing.")
async def get_base_prediction_config(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`getBasePredictionConfig`: what applies where a request says nothing (lmstudio-js 2.0)."""
    _instance(peer, parameter)
    return as_pairs(PREDICTION_DEFAULTS)


@known(
    "documented", "lmstudio-js, model namespaces", "Tells what an instance does, and how many requests wait."
)
async def processing_state(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`getInstanceProcessingState`."""
    instance = peer.core.instances.by_specifier(_of(parameter, "specifier", dict), peer.kind)
    return {"status": instance.status, "queued": len(instance.running) - instance.busy}


@known(
    "documented",
    "lmstudio-js, model namespaces",
    "Estimates the memory of a load, and whether the guardrails let it pass.",
)
@known("harness", "", "A model takes its size, and a tenth of it for its context.")
async def estimate_usage(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`estimateModelUsage`."""
    model = _model(peer, _of(parameter, "modelKey"))
    context = model.size_bytes // 10
    memory = {
        "confidence": "high",
        "modelVramBytes": model.size_bytes,
        "contextVramBytes": context,
        "totalVramBytes": model.size_bytes + context,
        "modelBytes": model.size_bytes,
        "contextBytes": context,
        "totalBytes": model.size_bytes + context,
    }
    return {"memory": memory, "passesGuardrails": _passes_guardrails(peer, model)}


def _passes_guardrails(peer: Peer, model: CatalogModel) -> bool:
    return peer.core.instances.fits(model) and not peer.core.settings.load_failure


@known("documented", "lmstudio-js, model namespaces", "Unloads an instance by its identifier.")
async def unload(peer: Peer, parameter: Any) -> None:
    """`unloadModel`."""
    peer.core.instances.unload(_of(parameter, "identifier"), peer.kind)


@known("documented", "lmstudio-js, model namespaces", "Returns the tokens of a text.")
@known("harness", "", "Tokens are pieces of words, the same on all routes.")
async def tokenize(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`tokenize`."""
    _instance(peer, parameter)
    return {"tokens": tokens.token_ids(_of(parameter, "inputString"))}


@known("documented", "lmstudio-js, model namespaces", "Counts the tokens of a text.")
async def count_tokens(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`countTokens`."""
    _instance(peer, parameter)
    return {"tokenCount": tokens.count(_of(parameter, "inputString"))}


@known("documented", "lmstudio-js, LLM namespace", "Returns a history as the model reads it.")
@known("harness", "", "One template serves all models.")
async def apply_template(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`applyPromptTemplate`."""
    _instance(peer, parameter)
    return {"formatted": formatted(conversation(peer, _of(parameter, "history", dict)))}


@known("documented", "lmstudio-js, LLM namespace", "Takes a draft model; none is listed as loaded.")
async def preload_draft_model(peer: Peer, parameter: Any) -> None:
    """`preloadDraftModel`: a draft model has no instance of its own, so that none is listed."""
    _instance(peer, parameter)
    _model(peer, _of(parameter, "draftModelKey"))


@known("documented", "lmstudio-js, embedding namespace", "Embeds a text.")
async def embed_string(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`embedString`."""
    instance = _instance(peer, parameter, "modelSpecifier")
    vectors, _ = await embed(peer.core, instance, [_of(parameter, "inputString")], peer.record)
    return {"embedding": vectors[0]}


@known(
    "proved",
    WITNESSES,
    "Keeps an upload for its client, in one frame of any size; its identifier has its name.",
)
async def upload_file(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`uploadFileBase64`."""
    name = _of(parameter, "name")
    # WebP is documented for this way; only the HTTP routes refuse it.
    settings = peer.core.settings.replace(webp_refused=False)
    picture = pictures.from_base64(_of(parameter, "contentBase64"), settings)
    identifier = peer.core.files.add(peer.client, name, picture)
    file_type = "image" if pictures.looks_like_one(picture) else "unknown"
    return {"identifier": identifier, "fileType": file_type, "sizeBytes": len(picture.data)}


@known("documented", "lmstudio-js, RepositoryPort", "Searches models.")
@known("harness", "", "Only those of the catalogue are found.")
async def search_models(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`searchModels`: those of the catalogue."""
    options = _of(parameter, "opts", dict)
    term = str(options.get("searchTerm") or "").lower()
    found = [model for model in peer.core.instances.catalog if term in model.key.lower()]
    results = [
        {
            "name": model.title,
            "identifier": {"type": "catalog", "identifier": model.key},
            "exact": model.key.lower() == term,
        }
        for model in found[: int(options.get("limit") or 25)]
    ]
    return {"results": results}


@known("documented", "lmstudio-js, RepositoryPort", "Tells what of a model can be downloaded.")
async def download_options(peer: Peer, parameter: Any) -> dict[str, Any]:
    """`getModelDownloadOptions`."""
    identifier = _of(parameter, "modelSearchResultIdentifier", dict)
    model = peer.core.downloads.find(str(identifier.get("identifier") or identifier.get("huggingfaceUrl")))
    option = {
        "name": model.title,
        "sizeBytes": model.size_bytes,
        "fitEstimation": "fullGPUOffload",
        "downloadIdentifier": model.key,
        "indexedModelIdentifier": model.path,
        "compatibilityType": model_info(model)["format"],  # required since lmstudio-js 2.0
        "recommended": True,
    }
    if model.quantization:
        option["quantization"] = model.quantization
    return {"results": [option]}


_MODEL: dict[str, Call] = {
    "listLoaded": list_loaded,
    "getModelInfo": get_model_info,
    "getLoadConfig": get_load_config,
    "getBasePredictionConfig": get_base_prediction_config,
    "getInstanceProcessingState": processing_state,
    "estimateModelUsage": estimate_usage,
    "unloadModel": unload,
    "tokenize": tokenize,
    "countTokens": count_tokens,
}
CALLS: dict[tuple[str, str], Call] = {
    **{(kind, name): call for kind in ("llm", "embedding") for name, call in _MODEL.items()},
    ("llm", "applyPromptTemplate"): apply_template,
    ("llm", "preloadDraftModel"): preload_draft_model,
    ("embedding", "embedString"): embed_string,
    ("system", "listDownloadedModels"): list_downloaded,
    ("system", "listDownloadedModelVariants"): list_variants,
    ("system", "version"): version,
    ("system", "info"): info,
    ("files", "uploadFileBase64"): upload_file,
    ("repository", "searchModels"): search_models,
    ("repository", "getModelDownloadOptions"): download_options,
}
