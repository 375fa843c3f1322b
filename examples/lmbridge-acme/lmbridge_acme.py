"""Acme's text server, which answers a chat with one line of JSON for each piece."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from lmbridge import (
    Capabilities,
    Context,
    Event,
    Finish,
    Model,
    Progress,
    ProtocolError,
    ProviderInfo,
    Request,
    ServerError,
    TextDelta,
    Usage,
    hookimpl,
    http,
)

__all__ = ["Acme"]


class Acme:
    """The provider: what it says about itself, and its hooks."""

    info = ProviderInfo(
        title="Acme",
        base_url="http://127.0.0.1:7000",
        options=frozenset({"temperature", "max_tokens"}),
        capabilities=Capabilities(
            images=True,
            tools=False,
            structured_output=False,
            reasoning=False,
            history=True,
            conversation=False,
            integrations=False,
        ),
        settings={"accent": "how the server speaks: 'plain' (default) or 'pirate'"},
    )

    @hookimpl
    async def stream(self, request: Request, context: Context) -> AsyncIterator[list[Event]]:
        """Answer by ``POST /chat``."""
        answer = Answer(request)
        body = body_of(request, context)
        async with http.request(context, "POST", "/chat", body=body, model=request.model) as response:
            async for block in response:
                if events := answer.feed(block):
                    yield events
                else:
                    context.alive()
        yield [answer.finish()]

    @hookimpl
    async def list_models(self, context: Context) -> Sequence[Model]:
        """List by ``GET /models``."""
        listed = await http.get_json(context, "/models")
        try:
            offers = msgspec.convert(listed, list[Offer])
        except msgspec.ValidationError as exc:
            raise ProtocolError(f"Acme sent a list that cannot be read: {exc}") from exc
        return [
            Model(
                id=offer.name,
                max_context_length=offer.context,
                capabilities=Capabilities(images=offer.sees),
            )
            for offer in offers
        ]


class Offer(msgspec.Struct):
    """A model in the list."""

    name: str
    context: int | None = None
    sees: bool | None = None


def body_of(request: Request, context: Context) -> dict[str, Any]:
    """Return the body for ``POST /chat``. The core has encoded the pictures already, within the budget."""
    turns = [
        {
            "role": message.role,
            "text": message.text,
            "images": [image.data_url(context.connection.images) for image in message.images],
        }
        for message in request.messages
    ]
    accent = context.connection.settings.get("accent", "plain")
    return {"model": request.model, "turns": turns, "accent": accent, **request.options.explicit()}


class Line(msgspec.Struct):
    """One line of the answer; the server fills in one field, or ``done`` and ``tokens``."""

    loading: float | None = None
    text: str = ""
    error: str = ""
    done: str = ""
    tokens: int | None = None


class Answer:
    """Bytes in, events out; blocks of bytes may end anywhere."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._rest = b""
        self._done = ""

    def feed(self, block: bytes) -> list[Event]:
        """Return the events of the lines that ``block`` completes."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        return [event for line in lines if line for event in self._events(line)]

    def _events(self, text: bytes) -> list[Event]:
        try:
            line = msgspec.json.decode(text, type=Line)
        except msgspec.DecodeError as exc:
            raise ProtocolError(f"Acme sent a line that cannot be read: {exc}") from exc
        if line.error:
            raise ServerError(line.error)
        self._done = line.done or self._done
        events: list[Event] = []
        if line.loading is not None:
            events.append(Progress("loading model", line.loading))
        if line.text:
            events.append(TextDelta(line.text))
        if line.tokens is not None:
            events.append(Usage(completion_tokens=line.tokens))
        return events

    def finish(self) -> Finish:
        """Return the last event.

        Raises:
            ProtocolError: the server has not said that it is done.
        """
        if not self._done:
            raise ProtocolError("Acme's answer broke off")
        return Finish("length" if self._done == "length" else "stop", model=self._request.model)
