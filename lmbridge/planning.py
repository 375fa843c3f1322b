"""From a connection and a request to a call that is ready to be made; the model has been sent nothing yet."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from lmbridge.calls import Plan
from lmbridge.context import Context
from lmbridge.errors import InvalidRequest, LMBridgeError, ModelLoadFailed, ModelNotFound
from lmbridge.ledger import ledger
from lmbridge.limits import Limiter, limiter
from lmbridge.listings import find_model, loaded_model, similar
from lmbridge.preparation import adapt, depends_on_model, features_of, validate_content, validate_options
from lmbridge.presets import PRESETS, apply_preset
from lmbridge.turns import Turn, Turns, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from lmbridge.catalog import Model, ProviderInfo
    from lmbridge.chat import Options, Request, Timeouts
    from lmbridge.listings import Catalogue
    from lmbridge.plugins import Plugins
    from lmbridge.runtime import LoopResources
    from lmbridge.settings import Connection

__all__ = ["Planner", "slots"]

#: Kinds of requests whose terms are remembered.
_REMEMBERED = 256
#: Most bytes of options that are remembered: ``extra`` may be of any size.
_LONGEST = 4096
_told = msgspec.msgpack.Encoder().encode


class Planner:
    """Prepares calls.

    Args:
        plugins: dispatches them.
        catalogue: what the servers say of their models.
        presets: returns all presets; asked only for names that are not ours.
    """

    def __init__(
        self, plugins: Plugins, catalogue: Catalogue, presets: Callable[[], Mapping[str, Options]]
    ) -> None:
        self._plugins = plugins
        self._catalogue = catalogue
        self._presets = presets
        self._known: dict[Hashable, _Terms] = {}

    async def plan(
        self,
        connection: Connection,
        info: ProviderInfo,
        request: Request,
        resources: LoopResources,
        *,
        whole: bool,
    ) -> Plan:
        """Return the call, checked, adapted and with its pictures encoded.

        Args:
            connection: where it goes.
            info: of the connection's provider.
            request: as it was written.
            resources: of the running loop.
            whole: the answer is wanted as a whole, so ``generate`` is preferred to ``stream``.

        Raises:
            LMBridgeError: what is refused before anything is sent.
        """
        features = features_of(request)
        request = self._with_defaults(connection, request)
        validate_content(request)
        models = self._catalogue.recent(connection.identity)
        if models is None:
            validate_options(request.options.explicit(), request.timeouts)  # a server may take long to answer
            # A server of this machine or network is asked before the first call; one far away only if the
            # answer decides about the request.
            ask = connection.is_local or depends_on_model(request, features)
            models = await self._catalogue.known(connection, resources, ask=ask)
        terms = self._terms(connection, info, request, features, models)
        request = terms.applied(request)
        if "images" in features:
            await asyncio.to_thread(_encode, request, connection)
        adapter = self._plugins.open(connection.name, connection.provider)
        names = ("generate", "stream") if whole else ("stream", "generate")
        hook = names[0] if names[0] in adapter.names else names[1]
        return Plan(
            request=request,
            begin=lambda context: self._plugins.call(hook, connection.name, request=request, context=context),
            context=lambda: Context(connection, terms.timeouts, resources, terms.listed),
            limiters=terms.slots(),
            notes=terms.notes,
            improve=lambda error: self._improve(connection, request, error, resources),
            loading=partial(self._loading, connection, request, object()),
            loaded=partial(ledger().arrived, connection, request.model or ""),
            connection=connection,
            cooperative=info.cooperative and not self._plugins.has_middleware,
        )

    def places(self, connection: Connection, info: ProviderInfo, name: str | None) -> list[Limiter | Turn]:
        """Return what a call that is no conversation holds: a slot, and its turn where one is needed."""
        slot = slots(connection, info, None, images=False)[-1]
        listed = find_model(self._catalogue.recent(connection.identity) or (), name) if name else None
        shared = _turns_of(connection, listed)
        if listed is None or shared is None:
            return [slot]
        shared.remember(self._catalogue, connection.identity)
        return [shared.turn(listed.id, loads=not listed.loaded), slot]

    def _with_defaults(self, connection: Connection, request: Request) -> Request:
        if request.preset is not None:
            presets = PRESETS if request.preset in PRESETS else self._presets()
            request = request.replace(options=apply_preset(request.options, request.preset, presets))
        if request.model is None and connection.model is not None:
            request = request.replace(model=connection.model)
        if request.on_unsupported is None and connection.on_unsupported is not None:
            request = request.replace(on_unsupported=connection.on_unsupported)
        return request

    def _terms(
        self,
        connection: Connection,
        info: ProviderInfo,
        request: Request,
        features: frozenset[str],
        models: tuple[Model, ...],
    ) -> _Terms:
        """Return on what terms the request can be made; worked out once for requests of the same kind."""
        key: Hashable = None
        # Encoded, because True and 1 are equal and only one of them is a number of tokens; not as JSON, which
        # writes bytes as a text and what is no number as null.
        with suppress(TypeError, ValueError, OverflowError, RecursionError):
            told = _told((request.options, request.timeouts))
            if len(told) <= _LONGEST:
                key = connection.identity, features, request.model, request.on_unsupported, told
                known = self._known.get(key)
                if known is not None and known.rests_on(connection, info, models):
                    return known
        terms = _terms(connection, info, request, features, models)
        if terms.turns is not None:
            terms.turns.remember(self._catalogue, connection.identity)
        if key is not None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = terms
        return terms

    def _loading(self, connection: Connection, request: Request, call: object) -> None:
        self._catalogue.forget(connection.identity)
        if request.model is not None:
            ledger().began(connection, request.model, call)

    async def _improve(
        self, connection: Connection, request: Request, error: LMBridgeError, resources: LoopResources
    ) -> None:
        if isinstance(error, ModelLoadFailed) and request.model is not None:
            ledger().failed(connection, request.model)
        await self._name_near_matches(connection, error, resources)

    async def _name_near_matches(
        self, connection: Connection, error: LMBridgeError, resources: LoopResources
    ) -> None:
        if not isinstance(error, ModelNotFound) or error.near or not error.model:
            return
        near = similar(await self._catalogue.known(connection, resources, ask=True), error.model)
        if near:
            error.near = near
            error.hint = f"did you mean {', '.join(map(repr, near))}?"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What connection, provider and server make of requests that differ only in their content.

    Attributes:
        connection: for which this holds, with
        info: of its provider, and
        models: its listing.
        listed: what it says of the model.
        model: the model's name.
        changes: options that are sent with another value. Not all options: they hold mappings, which belong
            to whoever gave them and may change.
        notes: adaptations that were made.
        timeouts: the clocks, all filled in.
        limits: slots to take, and how many there are.
        turns: the turns of the server's requests, where a load may cost another model its place.
    """

    connection: Connection
    info: ProviderInfo
    models: tuple[Model, ...]
    listed: Model | None
    model: str | None
    changes: Mapping[str, object]
    notes: tuple[str, ...]
    timeouts: Timeouts
    limits: Sequence[tuple[Limiter, int | None]]
    turns: Turns | None

    def rests_on(self, connection: Connection, info: ProviderInfo, models: tuple[Model, ...]) -> bool:
        """Whether these are the terms of the same things, and not only of things with the same names."""
        return self.models is models and self.connection is connection and self.info is info

    def slots(self) -> Sequence[Limiter | Turn]:
        """Return what a call has to hold while it runs, in the order in which it takes it."""
        limiters = _sized(self.limits)  # a call of another model of the same server may have resized them
        if self.turns is None or self.listed is None:
            return limiters
        return [self.turns.turn(self.listed.id, loads=not self.listed.loaded), *limiters]

    def applied(self, request: Request) -> Request:
        """Return the request as the provider gets it."""
        if request.model == self.model and not self.changes:
            return request
        options = msgspec.structs.replace(request.options, **self.changes)
        return request.replace(model=self.model, options=options)


def _terms(
    connection: Connection,
    info: ProviderInfo,
    request: Request,
    features: frozenset[str],
    models: tuple[Model, ...],
) -> _Terms:
    explicit = request.options.explicit()
    validate_options(explicit, request.timeouts)
    request, listed = _with_model(request, models)
    adapted, notes = adapt(request, info, listed, features, explicit)
    return _Terms(
        connection=connection,
        info=info,
        models=models,
        listed=listed,
        model=adapted.model,
        changes=_changes(request.options, adapted.options),
        notes=notes,
        timeouts=_merged(request.timeouts, connection.timeouts),
        limits=_limits(connection, info, listed, images="images" in features),
        turns=_turns_of(connection, listed),
    )


def _changes(given: Options, sent: Options) -> dict[str, object]:
    fields = given.__struct_fields__
    return {name: getattr(sent, name) for name in fields if getattr(sent, name) is not getattr(given, name)}


def _turns_of(connection: Connection, listed: Model | None) -> Turns | None:
    """Return the turns of the server's requests, where a load may cost another model its place."""
    may_evict = listed is not None and listed.loaded is not None and listed.load_evicts
    return turns(connection.netloc) if may_evict else None


def _with_model(request: Request, models: tuple[Model, ...]) -> tuple[Request, Model | None]:
    """Return the request with a model's name, and what the server says of that model."""
    if request.model is not None:
        return request, find_model(models, request.model)
    model = loaded_model(models)
    if model is None and models:
        names = ", ".join(sorted(item.id for item in models if item.kind == "llm")[:5])
        raise InvalidRequest("the request names no model, and none is loaded", hint=f"name one of {names}")
    return request.replace(model=model.id if model else None), model


def slots(connection: Connection, info: ProviderInfo, model: Model | None, *, images: bool) -> list[Limiter]:
    """Return the slots that a call takes: first among those with pictures, then among all.

    The limit is the connection's own, else what the server says that it works on at once, else none.
    """
    return _sized(_limits(connection, info, model, images=images))


def _sized(limits: Sequence[tuple[Limiter, int | None]]) -> list[Limiter]:
    for limit, told in limits:
        if told:
            limit.resize(told)
    return [limit for limit, _ in limits]


def _limits(
    connection: Connection, info: ProviderInfo, model: Model | None, *, images: bool
) -> list[tuple[Limiter, int | None]]:
    """Return the slots that a call takes, each with how many there are, ``None`` if nobody tells."""
    place: Hashable = (connection.name, connection.base_url)
    told = connection.max_concurrency or (model.parallel if model else None)
    every = limiter(("calls", place)), told
    with_images = (model.image_concurrency if model else None) or info.image_concurrency
    if not images or with_images is None or connection.max_concurrency:
        return [every]
    return [(limiter(("images", place)), with_images), every]


def _encode(request: Request, connection: Connection) -> None:
    """Encode the pictures for the connection; the results stay on them, so the provider need not wait.

    Raises:
        ImageRejected: a picture does not fit the connection's budget.
    """
    for image in request.images:
        image.encode(connection.images)


def _merged(own: Timeouts, connection: Timeouts) -> Timeouts:
    told = {name: value for name, value in msgspec.structs.asdict(own).items() if value is not None}
    return msgspec.structs.replace(connection, **told) if told else connection
