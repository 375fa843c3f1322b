"""What is asked: messages, their parts, options and the request.

All types are immutable, slotted, picklable and convert to JSON and back (:func:`to_json`, :func:`from_json`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Struct, field

from lmbridge.errors import InvalidRequest
from lmbridge.images import Image, ImageSource

__all__ = [
    "ImagePart",
    "Message",
    "Options",
    "Part",
    "ReasoningLevel",
    "Request",
    "ResponseFormat",
    "Role",
    "TextPart",
    "Timeouts",
    "Tool",
    "ToolCallPart",
    "ToolResultPart",
    "from_json",
    "to_json",
]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ReasoningLevel: TypeAlias = Literal["off", "on", "minimal", "low", "medium", "high", "xhigh"]

_T = TypeVar("_T")


class TextPart(Struct, frozen=True, forbid_unknown_fields=True, tag="text", tag_field="type"):
    """Plain text."""

    text: str


class ImagePart(Struct, frozen=True, forbid_unknown_fields=True, tag="image", tag_field="type"):
    """One picture. Its JSON form is a data URL; see :class:`lmbridge.images.Image`."""

    image: Image


class ToolCallPart(Struct, frozen=True, forbid_unknown_fields=True, tag="tool_call", tag_field="type"):
    """A call of a tool that the model asked for.

    Attributes:
        id: the call's id, unique within the conversation.
        name: name of the tool.
        arguments: the arguments as JSON text, exactly as the model wrote them (it may be invalid JSON).
        server_executed: the server ran the tool itself; it must not be run again.
    """

    id: str
    name: str
    arguments: str = "{}"
    server_executed: bool = False


class ToolResultPart(Struct, frozen=True, forbid_unknown_fields=True, tag="tool_result", tag_field="type"):
    """What a tool answered to the call with the id ``tool_call_id``."""

    tool_call_id: str
    content: str
    is_error: bool = False


Part: TypeAlias = TextPart | ImagePart | ToolCallPart | ToolResultPart

_ROLES = get_args(Role)
_PARTS = frozenset(get_args(Part))


def _as_tuple(owner: Struct, name: str, kinds: frozenset[type] | None = None, hint: str = "") -> None:
    """Store a field of a frozen struct as a tuple, whatever sequence was given.

    Raises:
        InvalidRequest: it is no sequence, or holds something that is none of ``kinds``.
    """
    value = getattr(owner, name)
    if type(value) is not tuple:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise InvalidRequest(f"{name} must be a sequence, not {type(value).__name__}", hint=hint)
        value = tuple(value)
        msgspec.structs.force_setattr(owner, name, value)
    if kinds is not None and not kinds.issuperset(map(type, value)):
        wrong = next(type(item).__name__ for item in value if type(item) not in kinds)
        wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidRequest(f"{name} must hold {wanted}, not {wrong}", hint=hint)


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of the conversation.

    Attributes:
        role: whose turn it is.
        parts: what it says; any sequence of parts, stored as a tuple.

    Raises:
        InvalidRequest: the role is unknown, or something is no part.
    """

    role: Role
    parts: Sequence[Part]

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise InvalidRequest(f"a message's role must be one of {', '.join(_ROLES)}, not {self.role!r}")
        _as_tuple(self, "parts", _PARTS, "Message.user('…') makes a message of a text")

    @classmethod
    def system(cls, text: str) -> "Message":
        """Return instructions to the model."""
        return cls("system", (TextPart(text),))

    @classmethod
    def user(cls, text: str = "", *, images: Iterable[ImageSource] | ImageSource = ()) -> "Message":
        """Return a user's turn.

        Args:
            text: may be empty if there are images.
            images: anything :meth:`lmbridge.images.Image.all_from` takes, or an iterable of such; each
                picture of a batch becomes a part of its own. Pixels are copied here, in the caller's thread.

        Raises:
            ImageRejected: a source is no image.
        """
        if type(images) is tuple and not images:
            return cls("user", (TextPart(text),))
        pictures = tuple(ImagePart(image) for image in Image.all_from(images))
        texts: tuple[Part, ...] = (TextPart(text),) if text or not pictures else ()
        return cls("user", (*texts, *pictures))

    @classmethod
    def assistant(cls, text: str = "", *, tool_calls: Iterable[ToolCallPart] = ()) -> "Message":
        """Return an earlier answer of the model."""
        texts: tuple[Part, ...] = (TextPart(text),) if text else ()
        return cls("assistant", (*texts, *tool_calls))

    @classmethod
    def tool(cls, content: str, tool_call_id: str, *, is_error: bool = False) -> "Message":
        """Return the result of a tool call."""
        return cls("tool", (ToolResultPart(tool_call_id, content, is_error),))

    @property
    def text(self) -> str:
        """All text parts, joined without a separator."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[Image, ...]:
        """All pictures, in order."""
        return tuple(part.image for part in self.parts if isinstance(part, ImagePart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """All tool calls, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How to sample. ``None`` means: not sent, the server's own default holds.

    Attributes:
        temperature: 0 and above; 0 is greedy.
        top_p: 0 to 1.
        top_k: 0 and above.
        min_p: 0 to 1.
        max_tokens: most tokens to generate, reasoning included; -1, like ``None``, sends no limit.
        stop: texts that end the answer; not part of it. Any sequence, stored as a tuple.
        seed: for a repeatable answer, where the server offers it.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        repeat_penalty: above 0; 1 is none.
        reasoning: how much the model may think; what a model allows is in its
            :class:`~lmbridge.catalog.Capabilities`.
        context_length: tokens of context, for a load that this request causes.
        ttl: seconds of idleness after which a model that this request loads may go.
        load: further load settings in the provider's own names.
        draft_model: model for speculative decoding.
        extra: further body keys or settings in the provider's own names, passed on as they are.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    reasoning: ReasoningLevel | None = None
    context_length: int | None = None
    ttl: float | None = None
    load: Mapping[str, Any] | None = None
    draft_model: str | None = None
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.stop is not None:
            _as_tuple(self, "stop", frozenset({str}), "give stop=['…']")

    def explicit(self) -> dict[str, Any]:
        """Return the options that are set, by name. ``max_tokens=-1`` counts as unset."""
        values = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        if self.max_tokens == -1:
            del values["max_tokens"]
        return values


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may ask for.

    Attributes:
        name: letters, digits, ``_`` and ``-``; servers may rewrite other characters.
        description: what it does, for the model.
        parameters: JSON schema of the arguments object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True):
    """The form that the answer must have.

    Attributes:
        schema: a JSON schema; ``None`` asks for any JSON object.
        name: name of the schema, where the wire wants one.
        strict: ask the server to enforce the schema.
    """

    schema: Mapping[str, Any] | None = None
    name: str = "answer"
    strict: bool = True


class Timeouts(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The four clocks, in seconds; ``None`` means: as the connection says, ``0`` means: none.

    Attributes:
        connect: until the connection stands.
        first_event: until the server's first event. While it only reports that it loads or reads the
            prompt, each silence between two reports is held to this clock as well.
        idle: silence once the answer has begun.
        total: the whole call, our own queue included.
    """

    connect: float | None = None
    first_event: float | None = None
    idle: float | None = None
    total: float | None = None


_MESSAGES = frozenset({Message})
_TOOLS = frozenset({Tool})


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One call of a model. Any sequence may be given where one is asked for; it is stored as a tuple.

    Attributes:
        model: the server's name for the model; ``None`` takes the connection's, else the loaded one.
        messages: the conversation, oldest first.
        options: how to sample.
        preset: name of a preset whose options count where ``options`` says nothing.
        tools: functions that the model may ask for.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or the name of a tool.
        response_format: the form that the answer must have.
        conversation: have the server store this turn, so that :attr:`Result.response_id` can continue it.
        previous_response_id: continue this stored turn; ``messages`` then holds only what is new.
        integrations: MCP servers that the server itself may call, in the server's own form.
        timeouts: clocks of this call.
        on_unsupported: what to do with an option that the backend cannot honour: ``"error"`` refuses
            before anything is sent, ``"adapt"`` leaves the option out and says so in ``Finish.notes``;
            ``None``: as the connection says, else ``"error"``. Content (images, history, tools, schema) is
            never left out.
    """

    model: str | None = None
    messages: Sequence[Message] = ()
    options: Options = field(default_factory=Options)
    preset: str | None = None
    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    response_format: ResponseFormat | None = None
    conversation: bool = False
    previous_response_id: str | None = None
    integrations: Sequence[str | Mapping[str, Any]] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    on_unsupported: Literal["error", "adapt"] | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "messages", _MESSAGES, "give messages=[Message.user('…')]")
        if self.tools:
            _as_tuple(self, "tools", _TOOLS)
        if type(self.integrations) is not tuple:
            _as_tuple(self, "integrations")

    @property
    def images(self) -> tuple[Image, ...]:
        """All pictures of all messages, in order."""
        return tuple(image for message in self.messages for image in message.images)

    def replace(self, **changes: Any) -> "Request":
        """Return a copy with ``changes``."""
        return msgspec.structs.replace(self, **changes)


def _encode(value: Any) -> Any:
    if isinstance(value, Image):
        return value.data_url()
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _decode(kind: type, value: Any) -> Any:
    if kind is Image:
        if not isinstance(value, str):
            raise TypeError("an image is the text of a data URL")
        return Image.from_data_url(value)
    raise NotImplementedError(f"cannot read {kind.__name__} from JSON")


def to_json(value: Struct) -> bytes:
    """Return the JSON form of a message, request, event or result, as UTF-8."""
    return msgspec.json.encode(value, enc_hook=_encode)


def from_json(data: bytes | str, kind: type[_T]) -> _T:
    """Read what :func:`to_json` wrote.

    Raises:
        InvalidRequest: ``data`` is not JSON, or not of the form of ``kind``; a request with a field that it
            does not have is refused, too.
        ImageRejected: a data URL in it holds no image.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decode)
    except msgspec.DecodeError as exc:
        raise InvalidRequest(f"this is no {getattr(kind, '__name__', kind)}: {exc}") from exc
