"""`POST /api/v1/chat`: LM Studio's own chat, with named events and stored conversations (docs: rest/chat)."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, events, mcp, pictures
from lmbridge.emulator.conversation import Conversation, Picture, Turn
from lmbridge.emulator.errors import ContextOverflow, EmulatedError
from lmbridge.emulator.events import Done, EngineEvent
from lmbridge.emulator.evidence import known
from lmbridge.emulator.http_support import (
    CORE,
    Prediction,
    body_of,
    drop_connection,
    dumps,
    json_response,
    number_of,
    present_record,
    present_token,
    text_of,
)
from lmbridge.emulator.job import Job, Summary
from lmbridge.emulator.native.models import check_keys
from lmbridge.emulator.streaming import PredictionStream

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.core import Core

SAMPLING = ("temperature", "top_p", "min_p", "top_k", "repeat_penalty")
FIELDS = frozenset(
    {
        "model",
        "input",
        "system_prompt",
        "integrations",
        "stream",
        *SAMPLING,
        "max_output_tokens",
        "reasoning",
        "context_length",
        "store",
        "previous_response_id",
    }
)
EFFORTS = ("off", "low", "medium", "high", "xhigh", "on")


@known(
    "documented",
    "LM Studio docs, rest/chat",
    "Answers one input, whole or as a stream, loads the model if need be, and stores the chat by default.",
)
@known(
    "documented",
    "LM Studio docs, rest/chat",
    "Output is a list of reasoning, tool calls and messages in their order; no field tells why it ended.",
)
@known(
    "documented",
    "LM Studio docs, rest/chat",
    "A response id is `resp_` and 48 hexadecimal digits, and can be continued more than once.",
)
@known(
    "observed",
    "LM Studio docs repository#253, comfyui-vrgamedevgirl#135",
    "A text item has the type `text` and its text in `content`, unlike the documentation's table.",
)
async def chat(request: web.Request) -> web.StreamResponse:
    """Answer a chat request."""
    core = request.app[CORE]
    body = await body_of(request)
    job, store = await _job(core, body)
    if body.get("stream"):
        return await _Stream(request, job, store=store).run()
    async with Prediction(request, job, streaming=False) as generation:
        done: Done | None = None
        async for event in generation:
            done = event if isinstance(event, Done) else done
    if done is None or done.drop:
        drop_connection(request)
        raise ConnectionAbortedError
    if done.error or done.summary.stop_reason == "modelUnloaded":
        raise done.error or errors.unloaded()
    return json_response(_result(core, job, done.summary, store=store))


def _result(
    core: Core, job: Job, summary: Summary, *, store: bool, instance_id: str | None = None
) -> dict[str, Any]:
    served = summary.instance
    stats: dict[str, Any] = {
        "input_tokens": summary.prompt_tokens,
        "total_output_tokens": summary.output_tokens,
        "reasoning_output_tokens": summary.reasoning_tokens,
        "tokens_per_second": summary.tokens_per_second,
        "time_to_first_token_seconds": round(summary.first_token_seconds, 6),
    }
    if summary.load_seconds is not None:
        stats["model_load_time_seconds"] = round(summary.load_seconds, 6)
    result: dict[str, Any] = {
        "model_instance_id": instance_id or (served.id if served else job.model.key),
        "output": summary.output,
        "stats": stats,
    }
    if store:
        result["response_id"] = core.chats.new_id()
        core.chats.store(result["response_id"], (*job.turns, *summary.answer()))
    return result


# The request


async def _job(core: Core, body: dict[str, Any]) -> tuple[Job, bool]:
    """Check a request as strictly as the server does, and make a job of it."""
    key = text_of(body, "model", required=True)
    check_keys(core, body, FIELDS)
    if "input" not in body:
        raise errors.missing("input")
    for name in ("stream", "store"):
        if not isinstance(body.get(name, False), bool):
            raise errors.wrong_type(name, "boolean")
    options = _options(body, core.settings.temperature_limit)
    model = core.instances.resolve(key, "llm")
    effort = _effort(body.get("reasoning"), model.key, model.reasoning, model.reasoning_default)
    user = _user_turn(core, body["input"])
    turns = _turns(core, body, user)
    seen = [picture for turn in turns for picture in turn.pictures]
    core.check_vision(model, len(seen))
    context = number_of(body, "context_length", integer=True)
    if context is not None and context < 1:
        raise EmulatedError("Number must be greater than 0", code="invalid_value", param="context_length")
    integrations: tuple[mcp.Integration, ...] = ()
    if body.get("integrations") is not None:
        token = present_token()
        permitted = token is None or token.mcp
        integrations = mcp.integrations(body["integrations"], core.settings, permitted=permitted)
    job = Job(
        model=model,
        asked_model=key,
        turns=turns,
        sights=await pictures.look(seen, core.settings),
        options=options,
        max_tokens=number_of(body, "max_output_tokens", integer=True),
        integrations=integrations,
        effort=effort,
        context_length=context,
    )
    return job, body.get("store", True)


def _options(body: dict[str, Any], hottest: float | None) -> dict[str, Any]:
    options = {name: number_of(body, name, integer=name == "top_k") for name in SAMPLING if name in body}
    limits = {"temperature": math.inf if hottest is None else hottest, "top_p": 1.0, "min_p": 1.0}
    for name, limit in limits.items():
        if options.get(name) is not None and not 0 <= options[name] <= limit:
            message = f"Number must be between 0 and {limit:g}"
            raise EmulatedError(message, code="invalid_value", param=name)
    if "max_output_tokens" in body:
        options["max_tokens"] = number_of(body, "max_output_tokens", integer=True)
    if "reasoning" in body:
        options["reasoning"] = body["reasoning"]
    return options


def _effort(asked: Any, key: str, allowed: tuple[str, ...], default: str) -> str:
    """Return the effective reasoning setting; this route refuses what the model does not take."""
    if asked is None:
        return default if allowed else "off"
    if not isinstance(asked, str) or asked not in EFFORTS:
        options = " | ".join(f"'{effort}'" for effort in EFFORTS)
        raise EmulatedError(
            f"Invalid enum value. Expected {options}", code="invalid_enum_value", param="reasoning"
        )
    if not allowed:
        raise errors.no_reasoning(key)
    if asked not in allowed:
        raise errors.wrong_reasoning(key, asked, allowed)
    return asked


def _user_turn(core: Core, value: Any) -> Turn:
    if isinstance(value, str):
        return Turn("user", value)
    if not isinstance(value, list):
        raise errors.wrong_type("input", "string or array")
    texts: list[str] = []
    images: list[Picture] = []
    for index, item in enumerate(value):
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in ("text", "image"):
            message = "Invalid discriminator value. Expected 'text' | 'image'"
            raise EmulatedError(message, code="invalid_union", param="input")
        wanted = "content" if kind == "text" else "data_url"
        if not isinstance(item.get(wanted), str):
            param = f"input.{index}.{wanted}"
            raise EmulatedError(f"'{param}' is required", code="missing_required_parameter", param=param)
        if extra := [name for name in item if name not in ("type", wanted)]:
            raise errors.unknown_keys(extra)
        if kind == "text":
            texts.append(item["content"])
        else:
            images.append(pictures.from_data_url(item["data_url"], core.settings))
    return Turn("user", "\n".join(texts), tuple(images))


def _turns(core: Core, body: dict[str, Any], user: Turn) -> Conversation:
    system = text_of(body, "system_prompt")
    previous = text_of(body, "previous_response_id")
    history: Conversation = core.chats.get(previous) if previous is not None else ()
    if system is not None:
        if previous is not None and core.settings.repeated_system_prompt_fails:
            message = "Only user, assistant and tool roles are supported, got system"
            raise EmulatedError(message, status=500, native_type="internal_error")
        history = (*history, Turn("system", system))
    return (*history, user)


# The stream


class _Stream(PredictionStream):
    def __init__(self, request: web.Request, job: Job, *, store: bool) -> None:
        super().__init__(request, job)
        self._store = store
        self._instance_id = job.model.key
        self._started = False
        self._marker = ""

    async def _send(self, kind: str, **fields: Any) -> None:
        await self._sse.send(dumps({"type": kind, **fields}), event=kind)

    async def _start(self) -> None:
        if not self._started:
            self._started = True
            await self._send("chat.start", model_instance_id=self._instance_id)

    async def _event(self, event: EngineEvent) -> None:
        if isinstance(event, events.LoadBegins):
            self._instance_id = event.instance_id
            if self._core.settings.chat_start_first:
                await self._start()
            await self._send("model_load.start", model_instance_id=event.instance_id)
        elif isinstance(event, events.LoadProgress):
            fields = {"model_instance_id": event.instance_id, "progress": event.fraction}
            await self._send("model_load.progress", **fields)
        elif isinstance(event, events.LoadEnds):
            fields = {"model_instance_id": event.instance_id, "load_time_seconds": event.seconds}
            await self._send("model_load.end", **fields)
        elif isinstance(event, events.Begins):
            self._instance_id = event.instance.id
            await self._start()
            if self._core.settings.unknown_event:
                await self._send("quantum.start", qubits=3)
        elif isinstance(event, events.ServerTool):
            await self._send(f"tool_call.{event.stage}", **event.item)
            if event.stage == "start" and self._core.settings.tool_call_name_event:
                await self._send("tool_call.name", **event.item)
        else:
            await self._generated(event)

    async def _generated(self, event: EngineEvent) -> None:
        if isinstance(event, events.PromptProgress):
            if event.fraction == 0.0:
                await self._send("prompt_processing.start")
            await self._send("prompt_processing.progress", progress=event.fraction)
            if event.fraction == 1.0:
                await self._send("prompt_processing.end")
        elif isinstance(event, events.Token) and event.kind in ("reasoning", "message"):
            if event.first:
                await self._send(f"{event.kind}.start")
            await self._send(f"{event.kind}.delta", content=event.text)
        elif isinstance(event, events.PieceEnds):
            await self._send(f"{event.kind}.end")

    async def _finish(self, summary: Summary) -> None:
        result = _result(self._core, self._job, summary, store=self._store, instance_id=self._instance_id)
        await self._send("chat.end", result=result)
        if self._core.settings.open_after_end:
            present_record().end("finished")
            await asyncio.Event().wait()

    async def _fails(self, error: EmulatedError, summary: Summary) -> bool:
        """Report an error; True if the stream ends without `chat.end`.

        Raises:
            EmulatedError: nothing has been sent, so that the status can still tell.
        """
        settings = self._core.settings
        silent = isinstance(error, ContextOverflow) and settings.overflow == "silent"
        if settings.failure_ends_after_start or silent:
            await self._start()
            return True
        if not self._sse.begun and not (
            isinstance(error, ContextOverflow) and settings.overflow == "in_stream"
        ):
            raise error
        await self._tell(error, summary)
        return not settings.chat_end_after_error

    async def _tell(self, error: EmulatedError, _summary: Summary, /) -> None:
        await self._start()
        await self._send("error", error=error.native())
