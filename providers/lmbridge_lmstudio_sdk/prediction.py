"""One prediction: model, pictures, settings, then the answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import lmstudio as lms
import msgspec

from lmbridge.chat import Request
from lmbridge.errors import ContextOverflow, LMBridgeError, ProtocolError, UnsupportedFeature
from lmbridge_lmstudio_sdk import guarded
from lmbridge_lmstudio_sdk.config import PredictionSettings, load_config, prediction_settings, ttl_seconds
from lmbridge_lmstudio_sdk.connecting import Client, drop_client, with_client
from lmbridge_lmstudio_sdk.history import chat_of, upload
from lmbridge_lmstudio_sdk.loading import Ready, Wish, any_loaded, get_ready
from lmbridge_lmstudio_sdk.packets import PacketReader
from lmbridge_lmstudio_sdk.translation import dropped, translate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmbridge.context import Context
    from lmbridge.events import Event
    from lmbridge.operations import CompleteRequest
    from lmbridge_lmstudio_sdk.jobs import Job

__all__ = ["answer", "complete"]

_log = logging.getLogger(__name__)

#: Seconds that a model stays loaded which a request has loaded: the SDK's own default, and the server's.
_REQUEST_TTL = 3600
#: Bytes of text for each token of context from which on a prompt is counted before it is sent. Plain English
#: has about 4, Chinese 3; what is below can be taken to fit.
_BYTES_PER_TOKEN = 2
_POLICIES = {"contextOverflowPolicy", "context_overflow_policy", "llm.prediction.contextOverflowPolicy"}
#: Stands for pictures while a conversation is only checked.
_NO_HANDLE = lms.FileHandle(name="", identifier="", size_bytes=0, file_type="image")


async def answer(request: Request, context: Context, job: Job[Event]) -> None:
    """Answer a chat, with its events to ``job``."""
    if request.conversation or request.previous_response_id or request.integrations:
        raise UnsupportedFeature(
            "the LM Studio SDK stores no conversations and runs no integrations",
            features=["conversation", "integrations"],
            hint="use the provider lmstudio-rest",
        )
    # What cannot be expressed is refused before anything is loaded.
    chat_of(request.messages, dict.fromkeys(request.images, _NO_HANDLE))
    await _Prediction(request, context, job).answer()


async def complete(wanted: CompleteRequest, context: Context, job: Job[Event]) -> None:
    """Continue a text as it stands, with the events to ``job``."""
    request = Request(model=wanted.model, options=wanted.options)
    await _Prediction(request, context, job).complete(wanted.prompt)


def served_name(request: Request, context: Context) -> str:
    """Return the name to send for the requested model: the key in the place of a variant's id."""
    name, model = request.model or "", context.model
    sent = model.name_for(name) if model else name
    if sent != name:
        context.note(f"{name!r} was asked for by the key {sent!r}: LM Studio decides which variant answers")
    return sent


class _Prepared(NamedTuple):
    """What is on the server before a prediction."""

    client: Client
    model: Ready
    handles: dict[Any, lms.FileHandle]

    @property
    def llm(self) -> lms.AsyncLLM:
        return lms.AsyncLLM(self.model.id, self.client.sdk.llm)


class _Prediction:
    def __init__(self, request: Request, context: Context, job: Job[Event]) -> None:
        self._request = request
        self._context = context
        self._job = job
        self._settings: PredictionSettings = prediction_settings(request, context)
        self._reader = PacketReader(
            job.put, context, asked=request.model, as_json=request.response_format is not None
        )

    async def answer(self) -> None:
        prepared = await self._prepare()
        if self._job.stopping:
            return
        chat = chat_of(self._request.messages, prepared.handles)
        await self._check_context(prepared, chat)
        stream = await prepared.llm.respond_stream(
            chat,
            response_format=self._settings.response_format,
            config=self._settings.config,
            on_prompt_processing_progress=self._reader.prompt_progress,
        )
        await self._run(stream, prepared.client)

    async def complete(self, prompt: str) -> None:
        prepared = await self._prepare()
        if self._job.stopping:
            return
        stream = await prepared.llm.complete_stream(
            prompt,
            config=self._settings.config,
            on_prompt_processing_progress=self._reader.prompt_progress,
        )
        await self._run(stream, prepared.client)

    # -- before ----------------------------------------------------------------------------------------

    async def _prepare(self) -> _Prepared:
        """Get everything onto the server that the prediction needs.

        All of it may safely be done twice, so it is where a dropped connection shows and is replaced.
        """
        request, job = self._request, self._job
        config = load_config(request.options.load, request.options.context_length)
        ttl = ttl_seconds(request.options.ttl, _REQUEST_TTL)
        name = served_name(request, self._context)

        async def prepare(client: Client) -> _Prepared:
            if request.model is None:
                ready = await any_loaded(client)
            else:
                ready = await get_ready(client, Wish(name, config, ttl), job, self._context)
            handles = {}
            if request.images and not job.stopping:
                handles = await upload(client.sdk, request.images, self._context.connection.images)
            return _Prepared(client, ready, handles)

        prepared = await with_client(
            self._context, prepare, repeatable=lambda: not (job.spoke or job.stopping)
        )
        if config is not None and not prepared.model.began and not job.stopping:
            await self._compare_load(prepared)
        return prepared

    async def _compare_load(self, prepared: _Prepared) -> None:
        """Note settings of a load that came too late: a model that is loaded keeps its own."""
        options = self._request.options
        length = prepared.model.context_length or await prepared.llm.get_context_length()
        if options.context_length is not None and length != options.context_length:
            self._context.note(
                f"the model was loaded already, with a context of {length} tokens "
                f"instead of {options.context_length}"
            )
        if options.load:
            names = ", ".join(sorted(options.load))
            self._context.note(f"the model was loaded already: {names} of its load could not be set")

    async def _check_context(self, prepared: _Prepared, chat: lms.Chat) -> None:
        """Refuse a prompt that does not fit: the server would cut out its middle without a word.

        Raises:
            ContextOverflow: it has more tokens than the model's context.
        """
        limit = prepared.model.context_length
        if not limit or _POLICIES & (self._request.options.extra or {}).keys():
            return
        size = sum(len(message.text.encode("utf-8", "replace")) for message in self._request.messages)
        if size < limit * _BYTES_PER_TOKEN:
            return
        try:
            tokens = await prepared.llm.count_tokens(await prepared.llm.apply_prompt_template(chat))
        except (lms.LMStudioServerError, LookupError, TypeError, ValueError, AttributeError) as exc:
            _log.debug("the prompt could not be counted: %s", type(exc).__name__)
            return
        if tokens > limit:
            raise ContextOverflow(
                f"the prompt has {tokens} tokens, the model is loaded with a context of {limit}"
            )

    # -- the prediction --------------------------------------------------------------------------------

    async def _run(self, stream: lms.AsyncPredictionStream, client: Client) -> None:
        self._add_fields(stream)
        tools = bool(self._request.tools)
        if not guarded.watch_packets(stream, self._read_packet) and tools:
            raise _no_tools()
        try:
            with self._job.stoppable(stream.cancel, lambda: drop_client(self._context, client)):
                await self._iterate(stream)
        except Exception as exc:
            if dropped(exc):
                await drop_client(self._context, client)
            began = self._reader.answered
            raise translate(exc, client.netloc, model=self._request.model, began=began) from exc
        if self._job.stopping:
            return
        if tools and not self._reader.seen:
            raise _no_tools()
        self._reader.finish()
        self._job.finish()

    def _add_fields(self, stream: lms.AsyncPredictionStream) -> None:
        try:
            guarded.add_fields(stream, self._settings.fields)
        except UnsupportedFeature as exc:
            if self._request.on_unsupported != "adapt" or self._request.tools:
                raise
            self._context.note(f"left out: {exc.message}")

    def _read_packet(self, packet: Mapping[str, Any]) -> bool:
        """Read a packet within the SDK's loop, which an error must not leave: the server would go on."""
        if self._job.stopping:
            return packet.get("type") not in {"success", "error"}
        try:
            return self._reader.read(packet)
        except LMBridgeError as exc:
            self._job.fail(exc)
        except (LookupError, TypeError, AttributeError) as exc:
            self._job.fail(
                ProtocolError(f"the server sent a packet that cannot be read ({type(exc).__name__})")
            )
        return True

    async def _start(self, stream: lms.AsyncPredictionStream) -> bool:
        if self._job.stopping:
            return False
        await stream.start()
        return True

    async def _iterate(self, stream: lms.AsyncPredictionStream) -> None:
        """Iterate the prediction to its end. What the reader has taken never comes out of the stream."""
        if not await self._start(stream):
            return
        if self._job.stopping:  # it was told before there was anything to stop
            await stream.cancel()
        reader = self._reader
        try:
            async for piece in stream:
                reader.fragment(piece.content, piece.reasoning_type, piece.tokens_count)
        except msgspec.ValidationError as exc:
            if reader.ended or self._job.stopping:
                return  # the SDK could not read the figures; the reader has them
            if not reader.answered or "reasoningType" in str(exc):
                raise
            reader.success({})
        else:
            if not reader.ended:
                result = stream.result()
                reader.success({"stats": result.stats.to_dict(), "modelInfo": result.model_info.to_dict()})


def _no_tools() -> UnsupportedFeature:
    return UnsupportedFeature(
        f"lmstudio {getattr(lms, '__version__', '?')} no longer shows the tool calls of a model",
        features=["tools"],
        hint="use the provider openai-compat, or another version of lmstudio",
    )
