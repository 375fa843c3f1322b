"""From the values of the chat node's widgets to requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from lmbridge.chat import Message, Options, Request
from lmbridge.errors import InvalidRequest

from .choices import AUTOMATIC, NO_PRESET, PER_IMAGE, TYPE_A_NAME, UNSET_REASONING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Widgets", "make_requests", "model_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Widgets:
    """What the chat node was given; the widgets are described in its schema."""

    connection: str
    model: str
    preset: str
    prompt: str
    system_prompt: str
    seed: int
    temperature: float
    max_tokens: int
    reasoning: str
    image_mode: str
    on_error: str
    fallback_text: str
    rerun: str
    before_run: str
    after_run: str
    save_answer: bool
    kept_answer: str
    image: Any = None
    options: Options | None = None


def model_of(model: str) -> str | None:
    """Return the model to ask for; ``None``: the connection's own, else the loaded one.

    Raises:
        InvalidRequest: the value is an entry of the menu, no model.
    """
    name = model.strip()
    if name == TYPE_A_NAME:
        raise InvalidRequest(
            "no model is chosen", hint="choose one in the node's model list, or type its name"
        )
    return None if name in {"", AUTOMATIC} else name


def make_requests(widgets: Widgets) -> list[Request]:
    """Return the requests to make, at least one. Pictures are copied here, in the caller's thread.

    Raises:
        InvalidRequest: something is missing or contradicts itself.
        ImageRejected: the image is no image.
    """
    system = widgets.system_prompt.strip()
    begin = (Message.system(widgets.system_prompt),) if system else ()
    requests = [
        Request(
            model=model_of(widgets.model),
            messages=(*begin, message),
            options=_options(widgets),
            preset=None if widgets.preset == NO_PRESET else widgets.preset,
            on_unsupported="adapt",
        )
        for message in _messages(widgets)
    ]
    if not requests:
        raise InvalidRequest("the image holds no picture", hint="connect an image with at least one picture")
    return requests


def _messages(widgets: Widgets) -> Iterator[Message]:
    if widgets.image is None:
        if not widgets.prompt.strip():
            raise InvalidRequest("the prompt is empty", hint="write what to ask, or connect an image")
        yield Message.user(widgets.prompt)
    elif widgets.image_mode == PER_IMAGE:
        for picture in widgets.image:
            yield Message.user(widgets.prompt, images=picture)
    elif len(widgets.image):
        yield Message.user(widgets.prompt, images=widgets.image)


def _options(widgets: Widgets) -> Options:
    """Return the options: the node's own widgets win over those of the options node."""
    own: dict[str, Any] = {"seed": widgets.seed}
    if widgets.temperature >= 0:
        own["temperature"] = widgets.temperature
    if widgets.max_tokens:
        own["max_tokens"] = widgets.max_tokens
    if widgets.reasoning != UNSET_REASONING:
        own["reasoning"] = widgets.reasoning
    base = widgets.options or Options()
    if widgets.max_tokens == -1 and base.max_tokens is not None:
        del own["max_tokens"]  # the widget's default is no decision against the other node's limit
    return msgspec.structs.replace(base, **own)
