"""A provider that keeps every rule; the tests of the kit break one at a time. It speaks lines of JSON."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from lmbridge import (
    Capabilities,
    Context,
    Event,
    Finish,
    Model,
    ProtocolError,
    ProviderInfo,
    ReasoningDelta,
    Request,
    TextDelta,
    ToolCallDelta,
    Usage,
    hookimpl,
    http,
)

_log = logging.getLogger("solid")


class Solid:
    info = ProviderInfo(
        title="Solid",
        base_url="http://127.0.0.1:7001",
        options=frozenset({"temperature", "stop"}),
        capabilities=Capabilities(
            images=True,
            tools=True,
            structured_output=False,
            reasoning=True,
            history=True,
            conversation=False,
            integrations=False,
        ),
    )

    @hookimpl
    async def stream(self, request: Request, context: Context) -> AsyncIterator[list[Event]]:
        answer = Answer()
        body = body_of(request, context)
        async with http.request(context, "POST", "/chat", body=body, model=request.model) as response:
            async for block in response:
                if events := answer.feed(block):
                    yield events
                else:
                    context.alive()
        yield answer.end(request.model)

    @hookimpl
    async def list_models(self, context: Context) -> Sequence[Model]:
        listed = await http.get_json(context, "/models")
        if not isinstance(listed, list):
            raise ProtocolError("that is no list of models", hint="is it the right server?")
        return [Model(id=item["id"], capabilities=Capabilities(images=item["sees"])) for item in listed]


def body_of(request: Request, context: Context) -> dict[str, Any]:
    turns = [
        {
            "role": message.role,
            "text": message.text,
            "images": [image.data_url(context.connection.images) for image in message.images],
        }
        for message in request.messages
    ]
    tools = [tool.name for tool in request.tools]
    return {"model": request.model, "turns": turns, "tools": tools, **request.options.explicit()}


class Call(msgspec.Struct):
    id: str
    name: str
    arguments: str


class Line(msgspec.Struct):
    text: str = ""
    thought: str = ""
    call: Call | None = None
    done: str = ""
    tokens: tuple[int, int] | None = None


class Answer:
    def __init__(self) -> None:
        self._rest = b""
        self._calls = 0
        self._done: Line | None = None

    def feed(self, block: bytes) -> list[Event]:
        *lines, self._rest = (self._rest + block).split(b"\n")
        return [event for line in lines if line for event in self._events(line)]

    def _events(self, text: bytes) -> list[Event]:
        try:
            line = msgspec.json.decode(text, type=Line)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ProtocolError("the server sent a line that cannot be read") from exc
        if line.done:
            self._done = line
        events: list[Event] = []
        if line.thought:
            events.append(ReasoningDelta(line.thought))
        if line.text:
            events.append(TextDelta(line.text))
        if line.call is not None:
            index, self._calls = self._calls, self._calls + 1
            events.append(ToolCallDelta(index, line.call.id, line.call.name, line.call.arguments))
        return events

    def end(self, model: str | None) -> list[Event]:
        if self._done is None:
            raise ProtocolError("the answer broke off")
        prompt, completion = self._done.tokens or (None, None)
        finish: Any = self._done.done
        return [Usage(prompt, completion), Finish(finish, model=model)]


async def pause() -> None:
    await asyncio.sleep(0)
