"""Parts of an answer that the compatible routes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors
from lmbridge.emulator.events import Done, EngineEvent
from lmbridge.emulator.http_support import Prediction, drop_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from lmbridge.emulator.core import Core
    from lmbridge.emulator.job import Job, Summary

_FINISH = {
    "eosFound": "stop",
    "stopStringFound": "stop",
    "userStopped": "stop",
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
    "toolCalls": "tool_calls",
}


def finish_reason(summary: Summary) -> str:
    """Return OpenAI's name of a stop reason."""
    return _FINISH.get(summary.stop_reason, "stop")


def v0_extras(core: Core, job: Job, summary: Summary) -> dict[str, Any]:
    """Return what `/api/v0` adds to an answer (docs: rest/endpoints)."""
    instance = core.instances.ready(job.asked_model, job.model)
    drafted = job.options.get("draft_model")
    draft = {"draft_model": drafted, **summary.draft_counts()} if drafted else {}
    return {
        "stats": {
            "tokens_per_second": summary.tokens_per_second,
            "time_to_first_token": round(summary.first_token_seconds, 6),
            "generation_time": round(summary.seconds, 6),
            "stop_reason": summary.stop_reason,
            **draft,
        },
        "model_info": {
            "arch": job.model.architecture,
            "quant": job.model.quantization,
            "format": job.model.format,
            "context_length": instance.context_length if instance else core.settings.context_length,
        },
        "runtime": {"name": "llama.cpp-emulated", "version": "1.3.0", "supported_formats": ["gguf"]},
    }


async def finished_summary(
    request: web.Request, job: Job, watch: Callable[[EngineEvent], object] | None = None
) -> Summary:
    """Predict to the end.

    Args:
        request: whose answer it is.
        job: what to predict.
        watch: is told of all events but the last.

    Raises:
        EmulatedError: the prediction failed.
        ConnectionAbortedError: the connection was reset instead.
    """
    async with Prediction(request, job, streaming=False) as generation:
        done: Done | None = None
        async for event in generation:
            if isinstance(event, Done):
                done = event
            elif watch is not None:
                watch(event)
    if done is None or done.drop:
        drop_connection(request)
        raise ConnectionAbortedError
    if done.error is not None:
        raise done.error
    if done.summary.stop_reason == "modelUnloaded":
        raise errors.unloaded()
    return done.summary


def served_model(core: Core, job: Job) -> str:
    """Return the id of the instance that answers, which is what `model` says."""
    instance = core.instances.ready(job.asked_model, job.model)
    return instance.id if instance else job.model.key


def usage_of(core: Core, summary: Summary) -> dict[str, Any]:
    """Return the usage in OpenAI's shape."""
    zero = core.settings.zero_usage
    prompt, output = (0, 0) if zero else (summary.prompt_tokens, summary.output_tokens)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "completion_tokens_details": {"reasoning_tokens": 0 if zero else summary.reasoning_tokens},
    }
