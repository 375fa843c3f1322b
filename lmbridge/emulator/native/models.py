"""`/api/v1/models` and below: list, load, unload, download (docs: rest/list, load, unload, download)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import CORE, body_of, json_response, number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.instances import Instance

LOAD_FIELDS = (
    "model",
    "context_length",
    "eval_batch_size",
    "flash_attention",
    "num_experts",
    "offload_kv_cache_to_gpu",
    "echo_load_config",
)


@known(
    "documented",
    "LM Studio docs, rest/list",
    "Lists the downloaded models with capabilities, variants and loaded instances.",
)
@known(
    "observed",
    "cline#13472, openfox#49",
    "The usable context is that of the loaded instance, not `max_context_length`.",
)
async def list_models(request: web.Request) -> web.StreamResponse:
    """List all downloaded models with their loaded instances."""
    core = request.app[CORE]
    models = [_entry(core, model) for model in core.instances.downloaded()]
    if core.settings.unknown_model_type:
        models.append(
            {"type": "imageGen", "key": "acme/painter", "display_name": "Painter", "loaded_instances": []}
        )
    return json_response({"models": models})


def _entry(core: Core, model: CatalogModel) -> dict[str, Any]:
    instances = [entry for entry in core.instances.loaded() if entry.model is model]
    quantization = {"name": model.quantization, "bits_per_weight": model.bits} if model.quantization else None
    entry: dict[str, Any] = {
        "type": model.kind,
        "publisher": model.publisher,
        "key": model.key,
        "display_name": model.title,
        "quantization": quantization,
        "size_bytes": model.size_bytes,
        "params_string": model.params,
        "loaded_instances": [{"id": instance.id, "config": load_config(instance)} for instance in instances],
        "max_context_length": model.max_context_length,
        "format": model.format,
    }
    if model.kind == "llm":
        entry |= {
            "architecture": model.architecture,
            "capabilities": _capabilities(model),
            "description": None,
        }
    if model.variants:
        entry |= {"variants": list(model.variants), "selected_variant": model.variants[0]}
    return entry


def _capabilities(model: CatalogModel) -> dict[str, Any]:
    capabilities: dict[str, Any] = {"vision": model.vision, "trained_for_tool_use": model.tools}
    if model.reasoning:
        capabilities["reasoning"] = {
            "allowed_options": list(model.reasoning),
            "default": model.reasoning_default,
        }
    return capabilities


def load_config(instance: Instance) -> dict[str, Any]:
    """Return the load configuration in the route's own names; that of an embedding model is shorter."""
    if instance.model.kind == "embedding":
        return {"context_length": instance.context_length}
    return dict(instance.config)


@known(
    "documented",
    "LM Studio docs, rest/load",
    "Loads without progress and answers id, seconds and, if asked, the configuration.",
)
@known("observed", "openclaw#75921", "A load by hand has no TTL and is never evicted.")
@known(
    "observed",
    "lmstudio-bug-tracker#1714, #2061",
    "Loads by the API have four parallel slots, whatever the application says.",
)
async def load_model(request: web.Request) -> web.StreamResponse:
    """Load a model by hand: no TTL, never evicted (observed, openclaw#75921)."""
    core = request.app[CORE]
    body = await body_of(request)
    key = text_of(body, "model", required=True) or ""
    check_keys(core, body, _load_fields(core))
    config = _load_options(body)
    if "parallel" in _load_fields(core):
        config["parallel"] = number_of(body, "parallel", integer=True)
    ttl = number_of(body, "ttl") if "ttl" in _load_fields(core) else None
    model = core.instances.find_model(key)
    if model is None:
        raise errors.unknown_model(key, [entry.key for entry in core.instances.downloaded()], jit=True)
    instance, seconds = await _load(core, model, config, ttl)
    answer: dict[str, Any] = {
        "type": model.kind,
        "instance_id": instance.id,
        "load_time_seconds": round(seconds, 6),
        "status": "loaded",
    }
    if body.get("echo_load_config"):
        answer["load_config"] = {k: v for k, v in load_config(instance).items() if k != "parallel"}
    return json_response(answer)


def _load_fields(core: Core) -> tuple[str, ...]:
    settings = core.settings
    more = {"parallel": settings.load_takes_parallel, "ttl": settings.load_takes_ttl}
    return (*LOAD_FIELDS, *(name for name, taken in more.items() if taken))


def check_keys(core: Core, body: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse keys that a route of `/api/v1` does not know.

    Raises:
        EmulatedError: there are some, and the server is as strict as usual.
    """
    extra = [name for name in body if name not in known]
    if extra and core.settings.strict_keys:
        raise errors.unknown_keys(extra)


def _load_options(body: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        name: number_of(body, name, integer=True)
        for name in ("context_length", "eval_batch_size", "num_experts")
    }
    for name in ("flash_attention", "offload_kv_cache_to_gpu", "echo_load_config"):
        value = body.get(name)
        if value is not None and not isinstance(value, bool):
            raise errors.wrong_type(name, "boolean")
        if name != "echo_load_config":
            config[name] = value
    if config["context_length"] is not None and config["context_length"] < 1:
        raise EmulatedError("Number must be greater than 0", code="invalid_value", param="context_length")
    return config


async def _load(
    core: Core, model: CatalogModel, config: dict[str, Any], ttl_s: float | None
) -> tuple[Instance, float]:
    present = next((entry for entry in core.instances.loaded() if entry.model is model), None)
    if present is not None and not core.settings.duplicate_load:
        return present, 0.0

    async def unseen(_fraction: float) -> None:
        return

    load = core.instances.begin_load(model, config=config, ttl_s=ttl_s)
    return await load.watch(unseen), load.seconds


@known("documented", "LM Studio docs, rest/unload", "Unloads an instance by its id.")
async def unload_model(request: web.Request) -> web.StreamResponse:
    """Unload an instance by its id."""
    core = request.app[CORE]
    body = await body_of(request)
    identifier = text_of(body, "instance_id", required=True) or ""
    check_keys(core, body, ("instance_id",))
    return json_response({"instance_id": core.instances.unload(identifier).id})


@known(
    "documented",
    "LM Studio docs, rest/download",
    "Begins a download of a catalogue key or a Hugging Face address, or says that it is there.",
)
async def download_model(request: web.Request) -> web.StreamResponse:
    """Begin a download."""
    core = request.app[CORE]
    body = await body_of(request)
    name = text_of(body, "model", required=True) or ""
    check_keys(core, body, ("model", "quantization"))
    if text_of(body, "quantization") is not None and not name.startswith("https://huggingface.co/"):
        message = "'quantization' is only supported for Hugging Face links."
        raise EmulatedError(message, code="invalid_value", param="quantization")
    job = core.downloads.start(core.downloads.find(name))
    return json_response(core.downloads.started_body(job))


@known(
    "documented",
    "LM Studio docs, rest/download-status",
    "Tells how far a download is; speed and estimate only while it runs.",
)
async def download_status(request: web.Request) -> web.StreamResponse:
    """Tell how far a download is."""
    downloads = request.app[CORE].downloads
    return json_response(downloads.status_body(downloads.get(request.match_info["job_id"])))
