"""The provider class: which hook does what."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from lmbridge.catalog import Capabilities, FallbackKey, Model, ModelKind, ProviderInfo
from lmbridge.chat import Request
from lmbridge.errors import InvalidRequest, LMBridgeError
from lmbridge.folding import Fold
from lmbridge.hookspecs import hookimpl
from lmbridge.operations import CompleteRequest, Embeddings, EmbedRequest, Health
from lmbridge_openai.answering import Prepared, answer
from lmbridge_openai.body import chat_body, complete_body, depends_on_dialect
from lmbridge_openai.configuration import SETTINGS, Configuration, configuration_of
from lmbridge_openai.decoding import AnswerDecoder
from lmbridge_openai.dialects import GENERIC, Dialect, of_listing
from lmbridge_openai.embeddings import embed_body, embeddings_of
from lmbridge_openai.listing import entries_of, models_of
from lmbridge_openai.selection import transport_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lmbridge.context import Context
    from lmbridge.events import Event, Result
    from lmbridge.images import Image
    from lmbridge.settings import Connection
    from lmbridge_openai.transports import Transport

    #: A connection, and what its settings mean. One provider object serves one connection, so one is kept.
    _Opened: TypeAlias = tuple[Connection, Configuration, Transport]

__all__ = ["OpenAICompat"]

_LMSTUDIO = "http://127.0.0.1:1234"


class OpenAICompat:
    """Every server that speaks OpenAI's ``/v1/chat/completions``."""

    info = ProviderInfo(
        cooperative=True,
        title="OpenAI-compatible",
        base_url=_LMSTUDIO,
        base_url_variable="OPENAI_BASE_URL",
        keys=(
            FallbackKey("OPENAI_API_KEY", "https://api.openai.com", address_variable="OPENAI_BASE_URL"),
            FallbackKey("LM_API_TOKEN", _LMSTUDIO),
            FallbackKey("LMSTUDIO_API_TOKEN", _LMSTUDIO),
        ),
        options=frozenset(
            {
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "max_tokens",
                "stop",
                "seed",
                "presence_penalty",
                "frequency_penalty",
                "repeat_penalty",
                "reasoning",
                "ttl",
                "draft_model",
                "extra",
            }
        ),
        capabilities=Capabilities(
            images=True,
            tools=True,
            structured_output=True,
            reasoning=True,
            history=True,
            conversation=False,
            integrations=False,
        ),
        settings=SETTINGS,
    )

    def __init__(self) -> None:
        #: What model lists have told, by address.
        self._learned: dict[str, Dialect] = {}
        self._kept: _Opened | None = None

    # -- hooks -----------------------------------------------------------------------------------------

    @hookimpl
    def stream(self, request: Request, context: Context) -> AsyncIterator[list[Event]]:
        """Stream a chat completion."""
        return answer(
            self._transport(context),
            context,
            "/chat/completions",
            lambda: self._prepare_chat(request, context),
        )

    async def _prepare_chat(self, request: Request, context: Context) -> Prepared:
        configuration = self._configuration(context)
        dialect = await self._dialect(context, configuration, request)
        request = _by_key(request, dialect, context)
        urls = await _data_urls(request.images, context)
        body = chat_body(
            request,
            dialect,
            context.note,
            lambda image: urls[id(image)],
            include_usage=configuration.include_usage,
        )
        wants_json = request.response_format is not None
        return body, AnswerDecoder(context.note, wants_json=wants_json, model=request.model)

    @hookimpl
    async def complete(self, request: CompleteRequest, context: Context) -> Result:
        """Continue a text; streamed on the wire, so that cancelling stops the server."""
        result = Fold()
        events = answer(
            self._transport(context),
            context,
            "/completions",
            lambda: self._prepare_text(request, context),
        )
        async with aclosing(events):
            async for batch in events:
                for event in batch:
                    result.add(event)
        return msgspec.structs.replace(result.result(), notes=context.notes)

    async def _prepare_text(self, request: CompleteRequest, context: Context) -> Prepared:
        configuration = self._configuration(context)
        model = request.model or await self._default_model(context, "llm")
        dialect = await self._dialect(context, configuration, Request(options=request.options))
        body = complete_body(
            request.prompt,
            model,
            request.options,
            dialect,
            context.note,
            include_usage=configuration.include_usage,
        )
        return body, AnswerDecoder(context.note, chat=False, model=model)

    @hookimpl
    async def embed(self, request: EmbedRequest, context: Context) -> Embeddings:
        """Turn texts into vectors."""
        if not request.texts:
            return Embeddings(vectors=(), model=request.model)
        model = request.model or await self._default_model(context, "embedding")
        payload = await self._transport(context).post(
            context, "/embeddings", embed_body(request, model), model
        )
        return embeddings_of(payload, len(request.texts))

    @hookimpl
    async def list_models(self, context: Context) -> Sequence[Model]:
        """List the models, with what the server tells about them."""
        payload = await self._transport(context).get(context, "/models")
        dialect = self._learn(context, self._configuration(context), payload)
        return await models_of(context, dialect, payload)

    @hookimpl
    async def health(self, context: Context) -> Health:
        """Ask for the model list."""
        try:
            configuration = self._configuration(context)
            payload = await self._transport(context).get(context, "/models")
            count = len(entries_of(payload))
        except LMBridgeError as error:
            return Health(ok=False, detail=f"{error.message} ({error.hint})" if error.hint else error.message)
        title = self._learn(context, configuration, payload).title
        return Health(ok=True, server=title, detail=f"{title} offers {count} model{'s' * (count != 1)}")

    # -- what kind of server it is ---------------------------------------------------------------------

    def _opened(self, context: Context) -> _Opened:
        kept = self._kept
        if kept is None or kept[0] is not context.connection:
            configuration = configuration_of(context)
            kept = self._kept = context.connection, configuration, transport_of(configuration)
        return kept

    def _configuration(self, context: Context) -> Configuration:
        return self._opened(context)[1]

    def _transport(self, context: Context) -> Transport:
        return self._opened(context)[2]

    async def _dialect(self, context: Context, configuration: Configuration, request: Request) -> Dialect:
        """Return the server's dialect; a server that is not known yet is asked if the answer matters."""
        if configuration.certain and configuration.dialect is not None:
            return configuration.dialect
        known = self._learned.get(context.connection.base_url)
        if known is None and configuration.dialect is None and depends_on_dialect(request):
            with suppress(LMBridgeError):
                payload = await self._transport(context).get(context, "/models")
                known = self._learn(context, configuration, payload)
        return known or configuration.dialect or GENERIC

    def _learn(self, context: Context, configuration: Configuration, payload: Any) -> Dialect:
        """Return the dialect that a model list tells, and remember it."""
        if configuration.certain and configuration.dialect is not None:
            return configuration.dialect
        dialect = of_listing(payload) or configuration.dialect or GENERIC
        self._learned[context.connection.base_url] = dialect
        return dialect

    async def _default_model(self, context: Context, kind: ModelKind) -> str:
        """Return the model for a request that names none: a loaded one, else the only one of its kind.

        Raises:
            InvalidRequest: it is not clear which model is meant.
        """
        models = [model for model in await self.list_models(context) if model.kind == kind]
        loaded = [model for model in models if model.loaded]
        for choice in (loaded, models):
            if len(choice) == 1:
                return choice[0].id
        names = ", ".join(sorted(model.id for model in models)[:5])
        raise InvalidRequest(
            "the request names no model", hint=f"name one of {names}" if names else "the server lists none"
        )


def _by_key(request: Request, dialect: Dialect, context: Context) -> Request:
    """Return the request with the key in the place of the id of one of LM Studio's variants.

    Such ids gave false errors (observed, openclaw#95401).
    """
    name, model = request.model, context.model
    key = model.name_for(name) if model and name and dialect.name == "lmstudio" else name
    if key == name:
        return request
    context.note(f"{name!r} was asked for by the key {key!r}: LM Studio decides which variant answers")
    return request.replace(model=key)


async def _data_urls(images: Sequence[Image], context: Context) -> dict[int, str]:
    """Return the pictures' data URLs by the identity of the picture; encoding runs in a thread."""
    if not images:
        return {}
    budget = context.connection.images

    def encode() -> dict[int, str]:
        return {id(image): image.data_url(budget) for image in images}

    return await asyncio.to_thread(encode)
