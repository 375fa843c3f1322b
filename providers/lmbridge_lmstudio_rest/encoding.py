"""From a request to the body of ``POST /api/v1/chat`` (LM Studio docs, rest/chat).

The route takes one user turn: text and picture items without roles. It is strict: a key that it does not know
is a 400, so nothing is sent that was not asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from lmbridge.chat import ImagePart, TextPart
from lmbridge.errors import InvalidRequest, UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmbridge.chat import Message, Request
    from lmbridge.context import Context

__all__ = ["HONOURED", "encode", "served_name"]

#: Our options and the names that they have on this route.
_FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "max_tokens": "max_output_tokens",
    "context_length": "context_length",
}
#: Names of the :class:`lmbridge.Options` that this route has an equivalent of.
HONOURED = frozenset(_FIELDS) | {"reasoning", "extra"}
_OURS = frozenset({"model", "input", "stream"})


async def encode(request: Request, context: Context) -> dict[str, Any]:
    """Return the body for ``request``; adaptations are noted in ``context``.

    Pictures are encoded in a worker thread.

    Raises:
        UnsupportedFeature: a part of the request has no form on this route.
        InvalidRequest: there is nothing to send, or a value cannot be right.
    """
    _check(request)
    reasoning = request.options.reasoning
    body: dict[str, Any] = {
        "model": served_name(request, context),
        "input": await _input(request, context),
        "stream": True,
        "store": request.conversation or request.previous_response_id is not None,
        **_sampling(request, context),
    }
    system = _system_prompt(request, context)
    if system:
        body["system_prompt"] = system
    if reasoning is not None:
        body["reasoning"] = reasoning
    if request.previous_response_id is not None:
        body["previous_response_id"] = request.previous_response_id
    if request.integrations:
        body["integrations"] = [
            dict(item) if isinstance(item, Mapping) else item for item in request.integrations
        ]
    return body | dict(request.options.extra) if request.options.extra else body


def _check(request: Request) -> None:
    if not request.model:
        raise InvalidRequest(
            "LM Studio's native REST API needs the name of a model",
            hint="set Request.model or the connection's model; 'lmbridge models' lists them",
        )
    if ours := sorted(_OURS.intersection(request.options.extra or ())):
        raise InvalidRequest(
            f"options.extra must not set {', '.join(ours)}", hint="the request's own fields decide these"
        )
    earlier = request.previous_response_id
    if earlier is not None and not earlier.startswith("resp_"):
        raise InvalidRequest(
            f"{earlier!r} is no response id of LM Studio: they begin with 'resp_'",
            hint="give the response_id of a result whose request had conversation=True",
        )
    for message in request.messages:
        _check_turn(message)


def _check_turn(message: Message) -> None:
    own = message.role in {"assistant", "tool"}
    if own or not all(isinstance(part, TextPart | ImagePart) for part in message.parts):
        raise UnsupportedFeature(
            "LM Studio's native REST API takes no earlier answers and no tool results",
            features=("history",),
            hint="continue a stored conversation by previous_response_id, or use a connection of the "
            "provider openai-compat or lmstudio-sdk",
        )
    if message.role == "system" and message.images:
        raise UnsupportedFeature(
            "LM Studio's native REST API takes no pictures in the system prompt",
            features=("images",),
            hint="put the pictures into a user message",
        )


def served_name(request: Request, context: Context) -> str:
    """Return the name to send for the requested model: its key, or the id of a loaded copy.

    The id of a variant (``key@q4_k_m``) gave false errors (observed, openclaw#95401), so it becomes the key.
    """
    name, model = request.model or "", context.model
    sent = model.name_for(name) if model else name
    if model is not None and sent != name != model.aliases[0]:
        context.note(
            f"{name!r} was asked for by the key {sent!r}: LM Studio decides which variant answers "
            f"(selected there: {model.aliases[0]!r})"
        )
    return sent


def _sampling(request: Request, context: Context) -> dict[str, Any]:
    chosen = request.options.explicit()
    if chosen.get("temperature", 0) > 1:
        context.note(
            f"temperature={chosen['temperature']} was sent as it is; "
            "LM Studio's native REST API documents 0 to 1"
        )
    if "context_length" in chosen:
        _note_context(chosen["context_length"], request, context)
    return {wire: chosen[name] for name, wire in _FIELDS.items() if name in chosen}


def _note_context(wanted: int, request: Request, context: Context) -> None:
    """The field counts for the load that a request causes; a loaded copy keeps what it has."""
    copies = (context.model.loaded if context.model else None) or ()
    named = [copy for copy in copies if copy.id == request.model] or list(copies)
    if named and named[0].context_length not in {None, wanted}:
        context.note(
            f"context_length={wanted} may not count: the model is loaded with {named[0].context_length}"
        )


def _system_prompt(request: Request, context: Context) -> str:
    texts = [message.text for message in request.messages if message.role == "system"]
    if not texts:
        return ""
    if request.previous_response_id is not None:
        # A template may refuse a second one: status 500 (observed, lmstudio-bug-tracker#2219).
        context.note("the system prompt was not sent again: the stored conversation has its own")
        return ""
    later = dropwhile(lambda message: message.role != "user", request.messages)
    if any(message.role == "system" for message in later):
        context.note("a system message behind a user message was moved to the front")
    return "\n\n".join(filter(None, texts))


async def _input(request: Request, context: Context) -> str | list[dict[str, str]]:
    turns = [message for message in request.messages if message.role == "user"]
    pictures = [image for turn in turns for image in turn.images]
    urls: list[str] = []
    if pictures:
        budget = context.connection.images
        urls = await asyncio.to_thread(lambda: [picture.data_url(budget) for picture in pictures])
    items = list(_items(turns, iter(urls)))
    if not items:
        raise InvalidRequest("the request has no user message with text or a picture")
    if len(turns) > 1:
        context.note("the user messages were sent as one turn: LM Studio's native REST API has no roles")
    if len(items) == 1 and items[0]["type"] == "text":
        return items[0]["content"]
    return items


def _items(turns: list[Message], urls: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the items in order. A text item has the key ``content``, whatever the table of the docs says."""
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, ImagePart):
                yield {"type": "image", "data_url": next(urls)}
            elif isinstance(part, TextPart) and part.text:
                yield {"type": "text", "content": part.text}
