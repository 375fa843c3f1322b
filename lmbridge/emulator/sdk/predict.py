"""The channel that predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, events
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.events import Done, EngineEvent, Token
from lmbridge.emulator.evidence import WITNESSES, known
from lmbridge.emulator.generation import Generation
from lmbridge.emulator.leaks import tags
from lmbridge.emulator.sdk.channel import Channel, ConnectionDropped
from lmbridge.emulator.sdk.info import as_pairs, fields_of, instance_info, load_config
from lmbridge.emulator.sdk.request import PREFIX, parses_reasoning, prediction_job

if TYPE_CHECKING:
    from lmbridge.emulator.instances import Instance
    from lmbridge.emulator.job import Summary

_REASONING = {
    "reasoning_start": "reasoningStartTag",
    "reasoning": "reasoning",
    "reasoning_end": "reasoningEndTag",
    "message": "none",
}


@known(
    "proved",
    WITNESSES,
    "Reports the prompt, streams fragments with their reasoning type, ends with `success` and stats.",
)
@known(
    "proved",
    WITNESSES,
    "After a `cancel` it ends with the stop reason `userStopped` and what was said.",
)
@known(
    "documented",
    "lmstudio-js, PredictionChannel",
    "Calls of tools come as packets of their own: start, name, arguments, end.",
)
@known("documented", "lmstudio-js, lms-communication", "A failure is a `channelError`, not a packet.")
async def predict(channel: Channel) -> None:
    """`predict`: stream fragments, then `success` with the stats; a cancel ends with `userStopped`."""
    await _run(channel, channel.parameter.get("history"))


@known("documented", "lmstudio-js, LLM namespace", "Continues a text.")
async def complete_raw_text(channel: Channel) -> None:
    """`completeRawText`: continue a text (the Python client asks `predict` for it, with a layer)."""
    prompt = channel.parameter.get("rawPrompt")
    if not isinstance(prompt, str):
        raise EmulatedError("Invalid parameter: 'rawPrompt' is required")
    part = {"type": "text", "text": prompt}
    await _run(channel, {"messages": [{"role": "user", "content": [part]}]}, completion=True)


async def _run(channel: Channel, history: Any, *, completion: bool = False) -> None:
    peer = channel.peer
    instance = peer.core.instances.by_specifier(channel.parameter.get("modelSpecifier"), peer.kind)
    job = await prediction_job(peer, instance, channel.parameter, history)
    job.completion = job.completion or completion
    generation = Generation(peer.core, job, peer.record)

    def stop(reason: str) -> None:
        if reason == "socket closed":
            generation.abandon(reason)
        else:
            generation.stop(reason)

    channel.on_stop(stop)
    try:
        await _Packets(channel, instance).run(generation)
    except BaseException:
        generation.abandon("socket closed")
        raise


class _Packets:
    """Puts the events of a prediction into the packets of the channel."""

    def __init__(self, channel: Channel, instance: Instance) -> None:
        self._channel = channel
        self._instance = instance
        self._settings = channel.peer.core.settings
        self._fields = fields_of(channel.parameter.get("predictionConfigStack"))
        self._draft_model = self._fields.get(f"{PREFIX}speculativeDecoding.draftModel")
        self._arguments = ""
        mode = self._settings.separate_reasoning
        self._classify = parses_reasoning(channel.parameter) and mode != "inline"

    async def run(self, generation: Generation) -> None:
        async for event in generation:
            if isinstance(event, Done):
                await self._end(event)
            else:
                await self._event(event)

    async def _event(self, event: EngineEvent) -> None:
        if isinstance(event, Token):
            await self._fragment(event)
        elif isinstance(event, events.PromptProgress):
            await self._progress(event)
        elif isinstance(event, events.CallBegins):
            self._arguments = ""
            await self._channel.send("toolCallGenerationStart", toolCallId=event.call.id)
            await self._channel.send("toolCallGenerationNameReceived", name=event.call.name)
        elif isinstance(event, events.CallArguments):
            self._arguments += event.text
            await self._channel.send("toolCallGenerationArgumentFragmentGenerated", content=event.text)
        elif isinstance(event, events.CallEnds):
            await self._call_ends(event)

    async def _progress(self, event: events.PromptProgress) -> None:
        if event.fraction == 0.0 and self._settings.unknown_packet:
            await self._channel.send("quantumProgress", qubits=3)
        processed = round(event.tokens * event.fraction)
        details = {
            "cachedTokenCount": 0,
            "totalPromptTokenCount": event.tokens,
            "processedPromptTokenCount": processed,
            "unprocessedPromptTokenCount": event.tokens - processed,
        }
        await self._channel.send("promptProcessingProgress", progress=event.fraction, details=details)

    async def _fragment(self, token: Token) -> None:
        if token.kind == "structure":
            return
        text = token.text
        if token.kind in ("reasoning_start", "reasoning_end"):
            before, after = tags(self._settings)
            text = before if token.kind == "reasoning_start" else after
        fragment = {
            "content": text,
            "tokensCount": 1,
            "containsDrafted": bool(self._draft_model),
            "reasoningType": self._reasoning_type(token),
            "isStructural": token.kind in ("reasoning_start", "reasoning_end"),
        }
        await self._channel.send("fragment", fragment=fragment)

    def _reasoning_type(self, token: Token) -> str:
        kind = _REASONING[token.kind] if self._classify else "none"
        return "quantumThought" if kind == "none" and self._settings.unknown_reasoning_type else kind

    async def _call_ends(self, event: events.CallEnds) -> None:
        call = event.call
        raw = f"{call.name}({self._arguments})"
        if event.problem == "invalid_format":
            title = f"Failed to parse the arguments of a call of {call.name}."
            error = {"title": title, "rootTitle": title}
            await self._channel.send("toolCallGenerationFailed", error=error, rawContent=raw)
            return
        # A tool that was not offered is a call like any other: both official clients look the name up.
        request = {"id": call.id, "type": "function", "name": call.name, "arguments": call.arguments}
        await self._channel.send("toolCallGenerationEnd", toolCallRequest=request, rawContent=raw)

    async def _end(self, done: Done) -> None:
        if done.drop:
            raise ConnectionDropped
        if done.error is not None:
            raise done.error
        if done.summary.stop_reason == "modelUnloaded" and self._settings.unload_while_running == "error":
            raise errors.unloaded()
        await self._channel.send(
            "success",
            stats=self._stats(done.summary),
            modelInfo=instance_info(self._instance, self._channel.peer.core.clock),
            loadModelConfig=load_config(self._instance),
            predictionConfig=as_pairs(self._fields),
        )

    def _stats(self, summary: Summary) -> dict[str, Any]:
        stats: dict[str, Any] = {
            "stopReason": "budgetReached" if self._settings.unknown_stop_reason else summary.stop_reason,
            "tokensPerSecond": summary.tokens_per_second,
            "numGpuLayers": -1,
            "timeToFirstTokenSec": round(summary.first_token_seconds, 6),
            "totalTimeSec": round(summary.first_token_seconds + summary.seconds, 6),
            "promptTokensCount": summary.prompt_tokens,
            "predictedTokensCount": summary.output_tokens,
            "totalTokensCount": summary.prompt_tokens + summary.output_tokens,
        }
        if self._draft_model:
            counts = summary.draft_counts()
            stats |= {
                "usedDraftModelKey": self._draft_model,
                "totalDraftTokensCount": counts["total_draft_tokens_count"],
                "acceptedDraftTokensCount": counts["accepted_draft_tokens_count"],
                "rejectedDraftTokensCount": counts["rejected_draft_tokens_count"],
                "ignoredDraftTokensCount": counts["ignored_draft_tokens_count"],
            }
        if summary.stop_string is not None:
            stats["stopString"] = summary.stop_string
        return stats
