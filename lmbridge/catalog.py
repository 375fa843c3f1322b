"""What providers and models can do, and which models there are."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

from lmbridge.chat import ReasoningLevel
from lmbridge.errors import LMBridgeError

__all__ = [
    "API_VERSION",
    "Capabilities",
    "FallbackKey",
    "Listing",
    "LoadedInstance",
    "Model",
    "ModelKind",
    "ProviderInfo",
]

#: Number of the hook contract that this version speaks; see :attr:`ProviderInfo.api`.
API_VERSION = 1

ModelKind: TypeAlias = Literal["llm", "embedding", "other"]


class Capabilities(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What something can do: ``True``, ``False``, or ``None`` for *unknown*, which is tried, not refused.

    Attributes:
        images: reads pictures.
        tools: calls tools that the request defines.
        structured_output: answers in a given JSON schema.
        reasoning: can think apart from the answer.
        reasoning_levels: the levels that may be asked for; ``None`` if unknown.
        history: takes earlier assistant turns and tool results.
        conversation: stores turns on the server (``previous_response_id``).
        integrations: lets the server call MCP servers itself.
    """

    images: bool | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    reasoning: bool | None = None
    reasoning_levels: tuple[ReasoningLevel, ...] | None = None
    history: bool | None = None
    conversation: bool | None = None
    integrations: bool | None = None


class LoadedInstance(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One copy of a model in the server's memory.

    Attributes:
        id: name of the copy; differs from the model's name if there are several.
        context_length: tokens of context it is loaded with.
        parallel: requests that it works on at once.
        ttl: seconds of idleness after which the server unloads it; ``None`` if unknown or never.
    """

    id: str
    context_length: int | None = None
    parallel: int | None = None
    ttl: float | None = None


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that a connection offers.

    Attributes:
        id: the name to put into :attr:`lmbridge.Request.model`.
        connection: name of the connection that offers it; filled in by the bridge.
        kind: what it is for.
        display_name: for people.
        publisher, architecture, quantization, parameters, format: as the server names them.
        size_bytes: of its files.
        max_context_length: tokens it could be loaded with.
        loaded: its copies in memory; ``None`` if the server does not tell.
        capabilities: what it can do.
        image_concurrency: requests with pictures that the server works on at once; ``None``: as others.
        load_evicts: a request that makes the server load this model may cost another its place in memory,
            even one that is answering. Such a request waits until the answers of other models have ended.
        aliases: further names that mean this model, e.g. variants.
    """

    id: str
    connection: str = ""
    kind: ModelKind = "llm"
    display_name: str | None = None
    publisher: str | None = None
    architecture: str | None = None
    quantization: str | None = None
    parameters: str | None = None
    format: str | None = None
    size_bytes: int | None = None
    max_context_length: int | None = None
    loaded: tuple[LoadedInstance, ...] | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    image_concurrency: int | None = None
    load_evicts: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def parallel(self) -> int | None:
        """Requests that its loaded copies work on at once, or ``None`` if the server does not tell."""
        slots = [copy.parallel for copy in self.loaded or () if copy.parallel]
        return max(slots) if slots else None

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` is this model's id, an alias or the id of a loaded copy."""
        return self._is_own(name) or name in self.aliases

    def name_for(self, name: str) -> str:
        """Return what to send for ``name``: the id in the place of an alias, anything else as it is.

        Servers may list names that they do not take: LM Studio gave false errors for the ids of variants
        (observed, openclaw#95401).
        """
        return self.id if name in self.aliases and not self._is_own(name) else name

    def _is_own(self, name: str) -> bool:
        return name == self.id or any(copy.id == name for copy in self.loaded or ())


class Listing:
    """The models of several connections; a connection that failed costs only its own models.

    Attributes:
        models: what was found, in the order of the connections.
        errors: the failed connections by name.
    """

    __slots__ = ("errors", "models")

    def __init__(self, models: tuple[Model, ...], errors: Mapping[str, LMBridgeError]) -> None:
        self.models = models
        self.errors = errors

    def __repr__(self) -> str:
        return f"Listing({len(self.models)} models, errors={sorted(self.errors)})"


class FallbackKey(Struct, frozen=True):
    """A foreign variable that may supply a key, bound to the one address that the key is meant for.

    Attributes:
        variable: e.g. ``OPENAI_API_KEY``.
        address: e.g. ``https://api.openai.com``; the key is never sent anywhere else.
        address_variable: a variable of the same source whose address may have the key, too.
    """

    variable: str
    address: str
    address_variable: str | None = None


class ProviderInfo(Struct, frozen=True, kw_only=True):
    """What a provider plugin says about itself, as the class attribute ``info``.

    Attributes:
        title: for people, e.g. ``"LM Studio (native REST)"``.
        api: the hook contract it was written for.
        base_url: its default address.
        base_url_variable: a foreign variable that names the default address, e.g. ``OPENAI_BASE_URL``.
        keys: foreign variables that may supply the key.
        options: names of the :class:`lmbridge.Options` it honours; ``None``: unknown, everything is tried.
        capabilities: what the transport can do at best; a model may do less.
        settings: further settings of a connection that the provider reads, with their meaning.
        max_image_pixels: most pixels of one picture that the servers take.
        cooperative: a promise: the iterators of ``stream`` stop at once when cancelled or closed, and
            hold nothing across a ``yield`` that belongs to one task (``asyncio.timeout``, ``TaskGroup``).
            They are then driven by the reader's own task, which saves a turn of the loop for each batch.
        image_concurrency: requests with pictures that one server works on at once; ``None``: as others.
        max_seed: largest seed that the servers take, if that is known; none below 0 then.
    """

    title: str
    api: int = API_VERSION
    base_url: str | None = None
    base_url_variable: str | None = None
    keys: tuple[FallbackKey, ...] = ()
    options: frozenset[str] | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    max_image_pixels: int | None = None
    cooperative: bool = False
    image_concurrency: int | None = None
    max_seed: int | None = None

    def offers(self, feature: str) -> Any:
        """Return the tri-state of a feature of :class:`Capabilities`."""
        return getattr(self.capabilities, feature)
