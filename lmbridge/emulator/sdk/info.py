"""Models, instances and configurations as the SDK's websockets show them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.instances import Instance

Fields = dict[str, Any]

LOAD_NAMES = {
    "llm.load.contextLength": "context_length",
    "embedding.load.contextLength": "context_length",
    "llm.load.llama.evalBatchSize": "eval_batch_size",
    "llm.load.llama.flashAttention": "flash_attention",
    "llm.load.numExperts": "num_experts",
    "llm.load.offloadKVCacheToGpu": "offload_kv_cache_to_gpu",
    "llm.load.numParallelSessions": "parallel",
}
"""Keys of the load configuration, and the names that `/api/v1` has for them."""

PREDICTION_DEFAULTS: Fields = {
    "llm.prediction.temperature": 0.8,
    "llm.prediction.topKSampling": 40,
    "llm.prediction.topPSampling": {"checked": True, "value": 0.95},
    "llm.prediction.minPSampling": {"checked": True, "value": 0.05},
    "llm.prediction.repeatPenalty": {"checked": True, "value": 1.1},
    "llm.prediction.maxPredictedTokens": {"checked": False, "value": 1000},
    "llm.prediction.contextOverflowPolicy": "truncateMiddle",
}
"""What applies where a request says nothing (lmstudio-js, lms-kv-config)."""


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


def instance_info(instance: Instance, clock: Clock) -> dict[str, Any]:
    """Return an InstanceInfo; the last use is a Unix timestamp in milliseconds (lmstudio-js)."""
    idle = clock.now() - instance.last_used
    return {
        **model_info(instance.model),
        "identifier": instance.id,
        "instanceReference": instance.reference,
        "ttlMs": None if instance.ttl_s is None else round(instance.ttl_s * 1000),
        "lastUsedTime": round((time.time() - idle) * 1000),
        "contextLength": instance.context_length,
    }


def load_config(instance: Instance) -> dict[str, Any]:
    """Return the load configuration of an instance as key and value pairs: what was asked, and defaults."""
    domain = instance.model.kind
    named = {
        key: instance.config[name]
        for key, name in LOAD_NAMES.items()
        if key.startswith(f"{domain}.") and name in instance.config
    }
    return as_pairs({**instance.fields, **named})


def as_pairs(fields: Fields) -> dict[str, Any]:
    """Return fields as the wire has them."""
    return {"fields": [{"key": key, "value": value} for key, value in fields.items()]}


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
    found = {LOAD_NAMES[key]: value for key, value in fields_of(stack).items() if key in LOAD_NAMES}
    options = {key: value for key, value in found.items() if value is not None}
    for key in ("context_length", "eval_batch_size", "num_experts", "parallel"):
        if isinstance(options.get(key, 1), bool) or not isinstance(options.get(key, 1), int):
            raise EmulatedError(f"Invalid load configuration: {key} is not an integer")
    return options
