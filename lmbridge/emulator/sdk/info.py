"""Models, instances and configurations as the SDK's websockets show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.instances import Instance

Fields = dict[str, Any]


def model_info(model: CatalogModel) -> dict[str, Any]:
    """Return a ModelInfo with all required fields (lmstudio-js)."""
    info: dict[str, Any] = {
        "type": model.kind,
        "modelKey": model.key,
        "format": "gguf" if model.format == "gguf" else "safetensors",
        "displayName": model.title,
        "publisher": model.publisher,
        "path": model.path,
        "sizeBytes": model.size_bytes,
        "indexedModelIdentifier": model.path,
        "deviceIdentifier": None,
        "maxContextLength": model.max_context_length,
        "architecture": model.architecture,
    }
    if model.params:
        info["paramsString"] = model.params
    if model.quantization:
        info["quantization"] = {"name": model.quantization, "bits": model.bits}
    if model.kind == "llm":
        info |= {"vision": model.vision, "trainedForToolUse": model.tools}
    if model.variants:
        info |= {"variants": list(model.variants), "selectedVariant": model.variants[0]}
    return info


def instance_info(instance: Instance) -> dict[str, Any]:
    """Return an InstanceInfo."""
    return {
        **model_info(instance.model),
        "identifier": instance.id,
        "instanceReference": instance.reference,
        "ttlMs": None if instance.ttl_s is None else round(instance.ttl_s * 1000),
        "lastUsedTime": round(instance.last_used * 1000),
        "contextLength": instance.context_length,
    }


def load_config(instance: Instance) -> dict[str, Any]:
    """Return the load configuration of an instance as key and value pairs."""
    if instance.model.kind == "embedding":
        return {"fields": [{"key": "embedding.load.contextLength", "value": instance.context_length}]}
    names = {
        "context_length": "llm.load.contextLength",
        "eval_batch_size": "llm.load.llama.evalBatchSize",
        "flash_attention": "llm.load.llama.flashAttention",
        "num_experts": "llm.load.numExperts",
        "offload_kv_cache_to_gpu": "llm.load.offloadKVCacheToGpu",
        "parallel": "llm.load.numParallelSessions",
    }
    return {
        "fields": [
            {"key": names[key], "value": value} for key, value in instance.config.items() if key in names
        ]
    }


def fields_of(stack: Any) -> Fields:
    """Return the merged fields of a configuration stack; later layers win."""
    merged: Fields = {}
    layers = stack.get("layers") if isinstance(stack, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        config = layer.get("config") if isinstance(layer, dict) else None
        entries = config.get("fields") if isinstance(config, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("key"), str):
                merged[entry["key"]] = entry.get("value")
    return merged


def load_options(stack: Any) -> dict[str, Any]:
    """Return the load configuration that a client asks for, by the names of `/api/v1`.

    Raises:
        EmulatedError: a number is none.
    """
    names = {
        "llm.load.contextLength": "context_length",
        "embedding.load.contextLength": "context_length",
        "llm.load.llama.evalBatchSize": "eval_batch_size",
        "llm.load.llama.flashAttention": "flash_attention",
        "llm.load.numExperts": "num_experts",
        "llm.load.offloadKVCacheToGpu": "offload_kv_cache_to_gpu",
        "llm.load.numParallelSessions": "parallel",
    }
    found = {names[key]: value for key, value in fields_of(stack).items() if key in names}
    options = {key: value for key, value in found.items() if value is not None}
    for key in ("context_length", "eval_batch_size", "num_experts", "parallel"):
        if isinstance(options.get(key, 1), bool) or not isinstance(options.get(key, 1), int):
            raise EmulatedError(f"Invalid load configuration: {key} is not an integer")
    return options
