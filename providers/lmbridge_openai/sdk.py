"""The official ``openai`` client as transport: its authentication and addresses, our decoder.

Only raw answers are taken from it, because a pydantic object per token costs thirty times as much. Works with
openai 1.66 and later, 3.x (httpx2) included; the package is an extra and is imported on first use.
"""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType
from typing import Any

import msgspec

from lmbridge import failures
from lmbridge.context import Context
from lmbridge.errors import (
    ConfigurationError,
    LMBridgeError,
    ProtocolError,
    ServerError,
    ServerUnreachable,
    TimedOut,
)
from lmbridge.http import CLOSED, UNTRUSTED, WRONG_PORT, encode_json, url_of
from lmbridge_openai.configuration import Configuration
from lmbridge_openai.transports import Answer

__all__ = ["SDKTransport"]

_KEY = "openai client"
_ERROR_BODY_LIMIT = 64 * 1024
_GET_LIMIT = 32 * 1024 * 1024
_POST_LIMIT = 256 * 1024 * 1024
_NAMED = ("model", "messages", "prompt", "input", "encoding_format", "stream")


class _Compressed(Exception):
    """The library would unpack this answer, to a thousand times its size if need be."""


class _Begin:
    """The begin of an error's body. The client itself would read it to its end, and it may have none."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for block in self._stream:
            yield block
            size += len(block)
            if size >= _ERROR_BODY_LIMIT:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Client:
    """A client, and the exceptions of the HTTP library that it happens to use."""

    __slots__ = ("client", "errors", "module")

    def __init__(self, module: ModuleType, client: Any, http_client: Any) -> None:
        self.module = module
        self.client = client
        # httpx up to openai 2, httpx2 from openai 3 on: told by what the client's own class is made from.
        roots = [cls.__module__.partition(".")[0] for cls in type(http_client).__mro__]
        http = importlib.import_module(next(root for root in roots if root.startswith("httpx")))
        self.errors: tuple[type[Exception], ...] = (
            http.HTTPError,
            http.StreamError,
            OSError,
            _Compressed,
        )
        begin = type("_Begin", (_Begin, http.AsyncByteStream), {})  # the library checks the class

        async def cut(response: Any) -> None:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _Compressed
            if not response.is_success:
                response.stream = begin(response.stream)

        http_client.event_hooks = {"response": [cut]}


def _import() -> ModuleType:
    try:
        return importlib.import_module("openai")
    except ImportError as exc:
        raise ConfigurationError(
            "the transport 'sdk' needs the package openai, which cannot be imported",
            hint="pip install 'lmbridge[openai]', or set the connection's TRANSPORT to direct",
        ) from exc


class SDKTransport:
    """See :class:`~lmbridge_openai.transports.Transport`.

    Args:
        configuration: of the connection; with an ``api_version`` the client speaks to Azure.
    """

    __slots__ = ("_configuration",)

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    @asynccontextmanager
    async def stream(
        self, context: Context, path: str, body: Mapping[str, Any], model: str | None
    ) -> AsyncIterator[Answer]:
        """See :class:`~lmbridge_openai.transports.Transport`."""
        kept = await self._client(context)
        create = _create(kept.client, path).with_streaming_response.create
        answered = False
        try:
            async with create(**_arguments(body), **_options(context, kept.module)) as response:
                answered = True
                kind = response.headers.get("content-type", "")
                yield Answer(kind, response.iter_bytes(), kept.errors, lambda: False)
        except (kept.module.OpenAIError, *kept.errors) as exc:
            raise _translate(exc, kept, context, model, answered=answered) from exc

    async def get(self, context: Context, path: str) -> Any:
        """See :class:`~lmbridge_openai.transports.Transport`."""
        if path != "/models":
            raise ConfigurationError(f"the transport 'sdk' has no way to {path}")
        kept = await self._client(context)
        call = kept.client.models.with_streaming_response.list
        return await _json(kept, call, {}, context, model=None, limit=_GET_LIMIT)

    async def post(self, context: Context, path: str, body: Mapping[str, Any], model: str | None) -> Any:
        """See :class:`~lmbridge_openai.transports.Transport`."""
        kept = await self._client(context)
        create = _create(kept.client, path).with_streaming_response.create
        return await _json(kept, create, _arguments(body), context, model=model, limit=_POST_LIMIT)

    async def _client(self, context: Context) -> _Client:
        module = sys.modules.get("openai")
        if module is None:  # importing takes a second, of which the loop should see nothing
            module = await asyncio.to_thread(_import)
        return await context.resource(_KEY, lambda: _open(module, context, self._configuration))


@asynccontextmanager
async def _open(module: ModuleType, context: Context, configuration: Configuration) -> AsyncIterator[_Client]:
    # Building the TLS context alone takes a fifth of a second.
    kept = await asyncio.to_thread(_build, module, context, configuration)
    try:
        yield kept
    finally:
        await kept.client.close()


def _build(module: ModuleType, context: Context, configuration: Configuration) -> _Client:
    """Return a client that retries nothing, follows no redirect with the key, and has none but our clocks."""
    secret = context.connection.api_key
    key = "none" if secret is None else secret.get_secret_value()
    http_client = module.DefaultAsyncHttpxClient(
        follow_redirects=False,
        trust_env=not context.connection.is_loopback,  # loopback never goes through a proxy
    )
    common: dict[str, Any] = {
        "api_key": key,
        "max_retries": 0,
        "timeout": module.Timeout(None, connect=context.timeouts.connect or None),
        "http_client": http_client,
    }
    if configuration.api_version is not None:
        client = module.AsyncAzureOpenAI(
            azure_endpoint=url_of(context, ""),
            azure_deployment=configuration.azure_deployment,
            api_version=configuration.api_version,
            **common,
        )
    else:
        client = module.AsyncOpenAI(base_url=url_of(context, configuration.api_path), **common)
    if context.connection.host != "api.openai.com":
        client.organization = client.project = None  # taken from variables that are meant for OpenAI
    return _Client(module, client, http_client)


def _create(client: Any, path: str) -> Any:
    match path:
        case "/chat/completions":
            return client.chat.completions
        case "/completions":
            return client.completions
        case "/embeddings":
            return client.embeddings
        case _:
            raise ConfigurationError(f"the transport 'sdk' has no way to {path}")


def _arguments(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the client's method demands by name, and all else as ``extra_body``, which it passes on."""
    plain = msgspec.json.decode(encode_json(body))
    named = {name: plain.pop(name) for name in _NAMED if name in plain}
    if "input" in named:  # the client itself would ask for base64, which not every server knows
        named.setdefault("encoding_format", "float")
    return {**named, "extra_body": plain}


def _options(context: Context, module: ModuleType) -> dict[str, Any]:
    headers: dict[str, Any] = {"User-Agent": "lmbridge", "Accept-Encoding": "identity"}
    if context.connection.api_key is None:
        headers["Authorization"] = module.Omit()
    return {"extra_headers": headers}


async def _json(
    kept: _Client, call: Any, arguments: dict[str, Any], context: Context, *, model: str | None, limit: int
) -> Any:
    answered = False
    manager: AbstractAsyncContextManager[Any] = call(**arguments, **_options(context, kept.module))
    try:
        async with manager as response:
            answered = True
            body = await _read(response, limit)
    except (kept.module.OpenAIError, *kept.errors) as exc:
        raise _translate(exc, kept, context, model, answered=answered) from exc
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError("the answer is not JSON", hint="is this the right port and path?") from exc
    error = failures.error_in(payload, model=model) if isinstance(payload, dict) else None
    if error is not None:
        raise error
    return payload


async def _read(response: Any, limit: int) -> bytes:
    blocks, size = [], 0
    async for block in response.iter_bytes():
        size += len(block)
        if size > limit:
            raise ProtocolError(f"the answer is larger than {limit >> 20} MiB")
        blocks.append(block)
    return b"".join(blocks)


def _translate(
    exc: Any, kept: _Client, context: Context, model: str | None, *, answered: bool
) -> LMBridgeError:
    where, module = context.connection.netloc, kept.module
    if isinstance(exc, _Compressed) or isinstance(exc.__cause__, _Compressed):
        return ProtocolError(f"{where} sent a compressed answer, which was not asked for")
    if isinstance(exc, module.APIStatusError):
        response = exc.response
        return failures.from_body(response.status_code, response.content, response.headers, model=model)
    if answered:
        return ProtocolError(f"{where} broke the answer off ({type(exc).__name__})", retryable=True)
    if isinstance(exc, module.APITimeoutError):
        seconds = context.timeouts.connect
        return TimedOut(f"no connection to {where} within {seconds} s", clock="connect", seconds=seconds)
    if isinstance(exc, module.APIConnectionError):
        return _unreachable(exc.__cause__, where)
    return ServerError(f"the openai client failed: {type(exc).__name__}: {exc}")


def _unreachable(cause: BaseException | None, where: str) -> LMBridgeError:
    """Return the error for an answer that never began, by the HTTP library's own error."""
    name = type(cause).__name__  # of httpx or httpx2
    if name == "ConnectError" and "SSL" in str(cause):
        text = f"no secure connection to {where}: {cause}"
        return ServerUnreachable(text, sent=False, retryable=False, hint=UNTRUSTED)
    if name == "ConnectError":
        return ServerUnreachable(f"cannot connect to {where}: {cause}", sent=False)
    # h11 has one class for both; the texts are its own and httpcore's.
    if name == "RemoteProtocolError" and "disconnected" not in str(cause):
        return ProtocolError(f"what answers at {where} speaks no HTTP", hint=WRONG_PORT)
    return ServerUnreachable(f"{where} closed the connection without an answer", hint=CLOSED)
