"""How a request reaches the server: by our own HTTP, or by the official client."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol

from lmbridge import http
from lmbridge.context import Context

__all__ = ["Answer", "DirectTransport", "Transport"]


_BROKEN = (ConnectionError,)


class Answer:
    """The answer to a request whose body is still coming.

    Attributes:
        is_stream: whether it claims to be an event stream.
        blocks: the body, as it arrives.
        at_end: whether the body is known to have been read to its end.
        errors: what ``blocks`` raises if the connection breaks; leaving the transport's context with such an
            error turns it into one of ours.
    """

    __slots__ = ("at_end", "blocks", "errors", "is_stream")

    def __init__(
        self,
        content_type: str,
        blocks: AsyncIterator[bytes],
        errors: tuple[type[Exception], ...],
        at_end: Callable[[], bool],
    ) -> None:
        self.errors = errors
        self.at_end = at_end
        self.is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self.blocks = blocks


class Transport(Protocol):
    """Sends requests to the API. Paths are without the version: ``/chat/completions``."""

    def stream(
        self, context: Context, path: str, body: Mapping[str, Any], model: str | None
    ) -> AbstractAsyncContextManager[Answer]:
        """Send ``body``; leaving the context closes the connection if the answer is not read to its end."""
        ...

    async def get(self, context: Context, path: str) -> Any:
        """Return the decoded JSON of a GET request."""
        ...

    async def post(self, context: Context, path: str, body: Mapping[str, Any], model: str | None) -> Any:
        """Return the decoded JSON of a POST request."""
        ...


class _Direct(AbstractAsyncContextManager[Answer]):
    """A request under way; written out because a generator in between would cost as much as ten tokens."""

    __slots__ = ("_request",)

    def __init__(self, request: AbstractAsyncContextManager[http.Response]) -> None:
        self._request = request

    async def __aenter__(self) -> Answer:
        response = await self._request.__aenter__()
        return Answer(response.headers.get("content-type", ""), response, _BROKEN, response.at_end)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._request.__aexit__(kind, error, trace)


class DirectTransport:
    """Our own HTTP.

    Args:
        api_path: what follows the connection's address, ``/v1`` nearly everywhere.
    """

    __slots__ = ("_api_path",)

    def __init__(self, api_path: str = "/v1") -> None:
        self._api_path = api_path

    def stream(
        self, context: Context, path: str, body: Mapping[str, Any], model: str | None
    ) -> AbstractAsyncContextManager[Answer]:
        """See :class:`Transport`."""
        data = http.encode_json(body)
        return _Direct(http.request(context, "POST", self._api_path + path, body=data, model=model))

    async def get(self, context: Context, path: str) -> Any:
        """See :class:`Transport`."""
        return await http.get_json(context, self._api_path + path)

    async def post(self, context: Context, path: str, body: Mapping[str, Any], model: str | None) -> Any:
        """See :class:`Transport`."""
        return await http.post_json(context, self._api_path + path, http.encode_json(body), model=model)
