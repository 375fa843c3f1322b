"""`/v1` and `/api/v0`: text completions, embeddings and listings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors
from lmbridge.emulator.compat.answer import finish_reason, finished_summary, served_model, usage_of, v0_extras
from lmbridge.emulator.compat.request import common_job, wants_usage
from lmbridge.emulator.compat.stream import ChatStream
from lmbridge.emulator.conversation import Turn
from lmbridge.emulator.embedding import embed
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import CORE, body_of, json_response, number_of, present_record, text_of

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.instances import Instance


@known("documented", "LM Studio docs, openai-compat/completions", "Continues a text.")
async def completions(request: web.Request) -> web.StreamResponse:
    """Continue a text."""
    core = request.app[CORE]
    body = await body_of(request)
    model = core.instances.resolve(text_of(body, "model") or None, "llm")
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise errors.invalid("'prompt' field is required and must be a string")
    job = common_job(core, body, model)
    job.turns = (Turn("user", prompt),)
    job.completion = True
    if body.get("stream"):
        return await ChatStream(request, job, include_usage=wants_usage(body), legacy=True).run()
    summary = await finished_summary(request, job)
    choice = {"index": 0, "text": summary.text, "logprobs": None, "finish_reason": finish_reason(summary)}
    answer: dict[str, Any] = {
        "id": f"cmpl-{core.ids.base36(21)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": served_model(core, job),
        "choices": [choice],
        "usage": usage_of(core, summary),
        "stats": {},
    }
    if request.path.startswith("/api/v0/"):
        answer |= v0_extras(core, job, summary)
    return json_response(answer)


@known("documented", "LM Studio docs, openai-compat/embeddings", "Embeds one text or several.")
async def embeddings(request: web.Request) -> web.StreamResponse:
    """Embed one text or several."""
    core = request.app[CORE]
    body = await body_of(request)
    asked = text_of(body, "model") or None
    model = core.instances.resolve(asked, "embedding")
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise errors.invalid("'input' field must be a string or an array of strings")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise errors.invalid("'encoding_format' must be 'float' or 'base64'")
    record = present_record()
    instance = await loaded_instance(core, asked, model, number_of(body, "ttl"))
    vectors, count = await embed(core, instance, texts, record)
    data = [
        {"object": "embedding", "embedding": vector, "index": index} for index, vector in enumerate(vectors)
    ]
    old = request.path.startswith("/api/v0/")
    used = 0 if old or core.settings.zero_usage else count  # never counted there (docs: rest/endpoints)
    usage = {"prompt_tokens": used, "total_tokens": used}
    name = f"{model.key}@{model.quantization.lower()}" if old and model.quantization else instance.id
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})


async def loaded_instance(
    core: Core, asked: str | None, model: CatalogModel, ttl_s: float | None = None
) -> Instance:
    """Return the instance that serves a model, loading it if need be.

    Args:
        core: the emulator.
        asked: the model as the client named it.
        model: the same, resolved.
        ttl_s: idle time of the load, if it comes to one.

    Raises:
        EmulatedError: the load failed.
    """
    instance = core.instances.ready(asked, model)
    if instance is not None:
        return instance

    async def unseen(_fraction: float) -> None:
        return

    ttl_s = core.settings.jit_ttl_s if ttl_s is None else float(ttl_s)
    load = core.instances.begin_load(model, ttl_s=ttl_s, on_request=True)
    return await load.watch(unseen)


@known(
    "documented", "LM Studio docs, core/headless", "Lists what is downloaded, or without JIT what is loaded."
)
async def v1_models(request: web.Request) -> web.StreamResponse:
    """List models: with JIT all that are downloaded, else those that are loaded (docs: core/headless)."""
    instances = request.app[CORE].instances
    jit = request.app[CORE].settings.jit
    keys = [model.key for model in instances.downloaded()] if jit else []
    keys += [entry.id for entry in instances.loaded() if entry.id not in keys]
    data = [{"id": key, "object": "model", "owned_by": "organization_owner"} for key in keys]
    return json_response({"object": "list", "data": data})


def _v0_model(core: Core, model: CatalogModel) -> dict[str, Any]:
    instance = next((entry for entry in core.instances.loaded() if entry.model is model), None)
    kind = "embeddings" if model.kind == "embedding" else "vlm" if model.vision else "llm"
    entry: dict[str, Any] = {
        "id": model.key,
        "object": "model",
        "type": kind,
        "publisher": model.publisher,
        "arch": model.architecture,
        "compatibility_type": model.format,
        "quantization": model.quantization,
        "state": "loaded" if instance else "not-loaded",
        "max_context_length": model.max_context_length,
    }
    if instance:
        entry["loaded_context_length"] = instance.context_length
    if model.tools:
        entry["capabilities"] = ["tool_use"]
    return entry


@known(
    "documented",
    "LM Studio docs, rest/endpoints",
    "Lists the downloaded models with state, type and quantization.",
)
@known("observed", "zed#25606", "A loaded model also shows `loaded_context_length`.")
async def v0_models(request: web.Request) -> web.StreamResponse:
    """List the downloaded models (docs: rest/endpoints)."""
    core = request.app[CORE]
    data = [_v0_model(core, model) for model in core.instances.downloaded()]
    return json_response({"object": "list", "data": data})


@known("documented", "LM Studio docs, rest/endpoints", "Shows one model.")
async def v0_model(request: web.Request) -> web.StreamResponse:
    """Show one model."""
    core = request.app[CORE]
    key = request.match_info["model"]
    model = core.instances.find_model(key)
    if model is None:
        raise errors.unknown_model(key, [entry.key for entry in core.instances.downloaded()], jit=False)
    return json_response(_v0_model(core, model))
