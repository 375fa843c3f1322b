"""The provider's class: which hooks there are, and what does the work."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lmbridge.catalog import Capabilities, FallbackKey, LoadedInstance, ProviderInfo
from lmbridge.errors import LMBridgeError
from lmbridge.folding import Fold
from lmbridge.hookspecs import hookimpl
from lmbridge.operations import Embeddings, Health
from lmbridge_lmstudio_sdk import copies, listing, prediction, texts
from lmbridge_lmstudio_sdk.config import OPTIONS, REASONING_LEVELS
from lmbridge_lmstudio_sdk.connecting import open_client
from lmbridge_lmstudio_sdk.jobs import Job
from lmbridge_lmstudio_sdk.translation import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from lmbridge.catalog import Model
    from lmbridge.chat import Request
    from lmbridge.context import Context
    from lmbridge.events import Event, Progress, Result
    from lmbridge.operations import CompleteRequest, CountRequest, EmbedRequest, LoadRequest, UnloadRequest

__all__ = ["LMStudioSDK"]

_T = TypeVar("_T")

_ADDRESS = "http://127.0.0.1:1234"


class LMStudioSDK:
    """LM Studio through its official Python client (``lmstudio`` 1.5.0 or later), over websockets.

    Its strengths: progress of loads and prompts, a real cancel, load settings and time to live, token counts,
    structured output, tools. The client speaks no https; use ``lmstudio-rest`` behind a TLS proxy.
    """

    info = ProviderInfo(
        title="LM Studio (Python SDK)",
        base_url=_ADDRESS,
        keys=(FallbackKey("LM_API_TOKEN", _ADDRESS), FallbackKey("LMSTUDIO_API_TOKEN", _ADDRESS)),
        options=OPTIONS,
        capabilities=Capabilities(
            images=True,
            tools=True,
            structured_output=True,
            reasoning=True,
            reasoning_levels=tuple(REASONING_LEVELS),  # type: ignore[arg-type]  # its keys are levels
            history=True,
            conversation=False,
            integrations=False,
        ),
        # Observed, lmstudio-bug-tracker#2003: on Windows 5120 x 5120 pixels are too many.
        max_image_pixels=26_214_400,
        # Observed, lmstudio-bug-tracker#1654: vision requests at the same time hold each other up.
        image_concurrency=1,
        # llama.cpp's seeds have 32 bits and no sign (llama.h); ComfyUI's have 53.
        max_seed=2**32 - 1,
        cooperative=True,
    )

    @hookimpl
    async def stream(self, request: Request, context: Context) -> AsyncIterator[list[Event]]:
        """Answer a chat."""
        job = _job(partial(prediction.answer, request, context), context, request.model)
        try:
            while events := await job.mailbox.take():
                yield events
        finally:
            await job.stop()

    @hookimpl
    async def complete(self, request: CompleteRequest, context: Context) -> Result:
        """Continue a text as it stands."""
        job = _job(partial(prediction.complete, request, context), context, request.model)
        folded = Fold()
        try:
            while events := await job.mailbox.take():
                for event in events:
                    folded.add(event)
        finally:
            await job.stop()
        return folded.result()

    @hookimpl
    async def load_model(
        self, request: LoadRequest, context: Context
    ) -> AsyncIterator[Progress | LoadedInstance]:
        """Load a model, or find a copy that is loaded with the settings asked for."""
        job = _job(partial(copies.load, request, context), context, request.model)
        try:
            while items := await job.mailbox.take():
                for item in items:
                    yield item
        finally:
            await job.stop()

    @hookimpl
    async def unload_model(self, request: UnloadRequest, context: Context) -> Sequence[str]:
        """Unload a copy, or all copies of a model; the server's answer to each is awaited."""
        return await _translated(copies.unload(request, context), context, request.model)

    @hookimpl
    async def list_models(self, context: Context) -> Sequence[Model]:
        """List what the server has: by REST where it can, else by the SDK."""
        return await _translated(listing.list_models(context), context)

    @hookimpl
    async def embed(self, request: EmbedRequest, context: Context) -> Embeddings:
        """Turn texts into vectors."""
        return await _translated(texts.embed(request, context), context, request.model)

    @hookimpl
    async def count_tokens(self, request: CountRequest, context: Context) -> int:
        """Count tokens of a text, or of a conversation as the model's template renders it."""
        return await _translated(texts.count(request, context), context, request.model)

    @hookimpl
    async def health(self, context: Context) -> Health:
        """Ask whether LM Studio answers and takes the token."""
        try:
            client = await open_client(context)
            version = await listing.server_version(client)
        except LMBridgeError as exc:
            return Health(ok=False, detail=exc.message)
        return Health(ok=True, server=f"LM Studio {version}".rstrip(), detail=f"answers at {client.netloc}")


def _job(
    work: Callable[[Job[Any]], Coroutine[Any, Any, None]], context: Context, model: str | None
) -> Job[Any]:
    return Job(work, lambda exc: translate(exc, context.connection.netloc, model=model))


async def _translated(work: Awaitable[_T], context: Context, model: str | None = None) -> _T:
    try:
        return await work
    except (Exception, GeneratorExit) as exc:
        error = translate(exc, context.connection.netloc, model=model)
        if error is exc:
            raise
        raise error from exc
