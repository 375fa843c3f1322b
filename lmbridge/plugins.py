"""Find, load, isolate and dispatch plugins.

A provider is imported when one of its connections is first used; a middleware when the plugins are opened.
One broken plugin never stops the others: what is wrong with it is kept in :attr:`Plugins.states`.
"""

from __future__ import annotations

import copy
import importlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

import pluggy

from lmbridge.adapters import MiddlewareAdapter, ProviderAdapter
from lmbridge.answers import AUTHOR_ERRORS, reraise
from lmbridge.catalog import API_VERSION, ProviderInfo
from lmbridge.discovery import MIDDLEWARE_GROUP, PROVIDER_GROUP, Found, find_plugins, this_checkout
from lmbridge.errors import PluginError, UnknownProvider, UnsupportedFeature, near_matches
from lmbridge.hookspecs import PROJECT, HookSpecs
from lmbridge.verdicts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lmbridge.chat import Options
    from lmbridge.errors import LMBridgeError

__all__ = ["PluginState", "PluginStatus", "Plugins"]

_Error = TypeVar("_Error", bound="LMBridgeError")

PluginStatus: TypeAlias = Literal["available", "loaded", "disabled", "failed", "shadowed"]

#: A failed import is tried again by the first use after this many seconds, or at once by ``retry``.
_RETRY_SECONDS = 30.0
#: ``sys.exit`` in a module or constructor must end the plugin, not the program that looked at it.
_LOAD_ERRORS = (*AUTHOR_ERRORS, SystemExit)
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class PluginState:
    """What is known of a plugin without importing it, and what went wrong if it was.

    Attributes:
        kind: ``"provider"`` or ``"middleware"``.
        name: name of the entry point.
        value: what it names.
        distribution: where it comes from.
        version: version of that distribution.
        status: ``available`` means: not imported yet; ``shadowed``: another distribution's has the name.
        problem: one sentence, or empty.
        hint: the sentence that mends it, or empty.
    """

    kind: Literal["provider", "middleware"]
    name: str
    value: str
    distribution: str
    version: str
    status: PluginStatus
    problem: str = ""
    hint: str = ""


class _Entry:
    """A plugin that won its name."""

    __slots__ = ("disabled_by", "error", "failed_at", "found", "info", "loaded", "lock", "spare")

    def __init__(self, found: Found, disabled_by: str) -> None:
        self.found = found
        self.disabled_by = disabled_by
        self.lock = threading.Lock()
        self.loaded: Any = None
        self.info: ProviderInfo | None = None
        self.error: PluginError | None = None
        self.failed_at = 0.0
        #: The instance that showed that the provider can be used; the first connection gets it.
        self.spare: ProviderAdapter | None = None


def _names(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(filter(None, (item.strip() for item in text.split(","))))


class Plugins:
    """The plugins of one bridge. All methods may be called from any thread; loading blocks, so off the loop.

    Args:
        found: the declared plugins; by default those of the environment (:func:`find_plugins`).
        environ: where ``LMBRIDGE_PLUGINS`` (only these), ``LMBRIDGE_PLUGINS_DISABLE`` (not these) and
            ``LMBRIDGE_STRICT_PLUGINS`` (raise instead of recording) are read, before any import.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        found: Sequence[Found] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._clock = clock
        self._strict = environ.get("LMBRIDGE_STRICT_PLUGINS", "").strip().lower() in _TRUE
        self._only = _names(environ.get("LMBRIDGE_PLUGINS"))
        self._not = _names(environ.get("LMBRIDGE_PLUGINS_DISABLE")) or frozenset()
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)
        self._lock = threading.RLock()
        self._adapters: dict[str, ProviderAdapter] = {}
        self._callers: dict[tuple[str, str], pluggy.HookCaller] = {}
        self._shadowed: list[PluginState] = []
        self._providers: dict[str, _Entry] = {}
        self._middleware: dict[str, _Entry] = {}
        self._take(find_plugins(this_checkout()) if found is None else found)
        self._open_middleware()

    # -- what there is ---------------------------------------------------------------------------------

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the enabled providers, whether or not they can be loaded."""
        return tuple(name for name, entry in self._providers.items() if not entry.disabled_by)

    @property
    def states(self) -> tuple[PluginState, ...]:
        """Every declared plugin, providers first."""
        entries = [("provider", entry) for entry in self._providers.values()]
        entries += [("middleware", entry) for entry in self._middleware.values()]
        return (*(self._state(cast("Any", kind), entry) for kind, entry in entries), *self._shadowed)

    @property
    def has_middleware(self) -> bool:
        """Whether any middleware takes part in conversations."""
        return any(
            entry.loaded is not None and not entry.loaded.names.isdisjoint({"generate", "stream"})
            for entry in self._middleware.values()
        )

    def _state(self, kind: Literal["provider", "middleware"], entry: _Entry) -> PluginState:
        status: PluginStatus = "available"
        problem = hint = ""
        if entry.disabled_by:
            status, problem = "disabled", f"disabled by {entry.disabled_by}"
            hint = f"change {entry.disabled_by} to enable it"
        elif entry.error is not None:
            status, problem, hint = "failed", entry.error.message, entry.error.hint
        elif entry.loaded is not None:
            status = "loaded"
            if kind == "middleware" and entry.loaded.problem is not None:
                problem, hint = entry.loaded.problem.message, entry.loaded.problem.hint
        found = entry.found
        return PluginState(
            kind, found.name, found.value, found.distribution, found.version, status, problem, hint
        )

    def _take(self, found: Sequence[Found]) -> None:
        for item in found:
            kind: Literal["provider", "middleware"]
            kind, table = (
                ("provider", self._providers)
                if item.group == PROVIDER_GROUP
                else ("middleware", self._middleware)
            )
            if item.name in table:
                self._shadow(kind, item, table[item.name].found)
            else:
                table[item.name] = _Entry(item, self._disabled_by(item.name))

    def _shadow(self, kind: Literal["provider", "middleware"], item: Found, winner: Found) -> None:
        if item[1:3] == winner[1:3] and item.distribution == winner.distribution:
            return  # the same distribution is on the path twice
        other = winner.distribution
        problem = f"{kind} {item.name!r} of {item.distribution} is not used: {other} has the same name"
        hint = f"uninstall {item.distribution} or {winner.distribution}"
        if self._strict:
            raise PluginError(problem, hint=hint)
        self._shadowed.append(
            PluginState(
                kind, item.name, item.value, item.distribution, item.version, "shadowed", problem, hint
            )
        )

    def _disabled_by(self, name: str) -> str:
        if name in self._not:
            return "LMBRIDGE_PLUGINS_DISABLE"
        return "" if self._only is None or name in self._only else "LMBRIDGE_PLUGINS"

    # -- loading ---------------------------------------------------------------------------------------

    def _open_middleware(self) -> None:
        for name, entry in self._middleware.items():
            if entry.disabled_by:
                continue
            try:
                loaded = entry.found.load()
                instance = loaded() if isinstance(loaded, type) else loaded
                adapter = MiddlewareAdapter(instance, name)
                self._manager.register(adapter, name=f"{MIDDLEWARE_GROUP}:{name}")
                entry.loaded = adapter
            except _LOAD_ERRORS as exc:
                self._fail(entry, exc)
                if self._strict:
                    raise cast("PluginError", entry.error) from exc

    def _fail(self, entry: _Entry, exc: BaseException) -> PluginError:
        name = entry.found.name
        if isinstance(exc, PluginError):
            error = exc
        elif isinstance(exc, ImportError) and exc.name:
            error = PluginError(
                f"plugin {name!r} cannot be imported: {shown(str(exc))}",
                hint=f"reinstall {entry.found.distribution or 'its package'}, it needs {exc.name!r}",
            )
        else:
            error = PluginError(
                f"plugin {name!r} cannot be loaded: {type(exc).__name__}: {shown(str(exc))}",
                hint=f"update {entry.found.distribution or 'it'} or report this to its author",
            )
        error.__cause__ = exc if error is not exc else exc.__cause__
        entry.error, entry.failed_at = error, self._clock()
        return error

    def retry(self) -> None:
        """Forget every failed load, so that the next use tries again."""
        for entry in self._providers.values():
            entry.error = None

    def _entry(self, provider: str) -> _Entry:
        entry = self._providers.get(provider)
        if entry is None:
            close = near_matches(provider, self._providers)
            raise UnknownProvider(
                f"no provider plugin {provider!r} is installed",
                hint=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self._providers)}",
            )
        if entry.disabled_by:
            raise UnknownProvider(
                f"provider {provider!r} is disabled by {entry.disabled_by}",
                hint=f"change {entry.disabled_by} to enable it",
            )
        return entry

    def _load(self, provider: str) -> tuple[Any, ProviderInfo]:
        entry = self._entry(provider)
        with entry.lock:
            if entry.error is not None:
                if self._clock() - entry.failed_at < _RETRY_SECONDS:
                    raise _again(entry.error)
                entry.error = None
            if entry.info is None:
                importlib.invalidate_caches()
                try:
                    entry.loaded = entry.found.load()
                    entry.info = _info_of(entry.loaded, provider)
                    entry.spare = ProviderAdapter(_instance(entry.loaded, provider), provider)
                except _LOAD_ERRORS as exc:
                    entry.loaded = entry.info = None
                    raise _again(self._fail(entry, exc)) from exc
            return entry.loaded, entry.info

    def info(self, provider: str) -> ProviderInfo:
        """Import the provider, if that has not happened, and return what it says about itself.

        Raises:
            UnknownProvider: it is not installed or disabled.
            PluginError: it cannot be loaded.
        """
        return self._load(provider)[1]

    def open(self, connection: str, provider: str) -> ProviderAdapter:
        """Return the provider's adapter for ``connection``, made and registered at the first call.

        Raises:
            PluginError: as :meth:`info`; or the author's constructor raises.
        """
        adapter = self._adapters.get(connection)
        if adapter is not None and adapter.plugin == provider:
            return adapter
        cls, _ = self._load(provider)
        entry = self._entry(provider)
        with entry.lock:  # an author's constructor may be slow, and calls need the other lock
            adapter = self._adapters.get(connection)
            if adapter is not None and adapter.plugin == provider:
                return adapter
            adapter, entry.spare = entry.spare, None
            if adapter is None:
                adapter = ProviderAdapter(_instance(cls, provider), provider)
            return self._register(connection, adapter)

    def _register(self, connection: str, adapter: ProviderAdapter) -> ProviderAdapter:
        with self._lock:
            before = self._adapters.get(connection)
            if before is not None:
                self._manager.unregister(before)
            self._manager.register(adapter, name=connection)
            self._adapters[connection] = adapter
            self._callers.clear()  # each leaves out all the others, the new one included
            return adapter

    # -- dispatch --------------------------------------------------------------------------------------

    def call(self, hook: str, connection: str, **arguments: Any) -> Any:
        """Call ``hook`` of the one provider behind ``connection``, with every middleware around it.

        The other connections are removed from the call instead of asked: a coroutine function cannot
        decline, so with ``firstresult`` the last registered provider would answer for all.

        Raises:
            UnsupportedFeature: the provider lacks the hook.
            PluginError: provider or middleware raised something that is no error of ours.
        """
        with self._lock:
            mine = self._adapters[connection]
            if hook not in mine.names:
                raise UnsupportedFeature(f"provider {mine.plugin!r} has no {hook!r}", features=[hook])
            caller = self._callers.get((hook, connection))
            if caller is None:
                others = [adapter for adapter in self._adapters.values() if adapter is not mine]
                caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
                self._callers[hook, connection] = caller
        return caller(**arguments)

    def presets(self) -> dict[str, Options]:
        """Return what middleware adds to the presets; of two with one name the first registered counts.

        A middleware whose presets cannot be used costs only its own; :attr:`states` says why.

        Raises:
            PluginError: there is such a one, and ``LMBRIDGE_STRICT_PLUGINS`` is set.
        """
        with self._lock:
            answers: list[Mapping[str, Options]] = self._manager.hook.presets()
        for entry in self._middleware.values():
            if self._strict and entry.loaded is not None and entry.loaded.problem is not None:
                raise _again(entry.loaded.problem)
        return {name: options for answer in answers for name, options in answer.items()}


def _again(error: _Error) -> _Error:
    """Return a copy to raise: each raiser adds to an error where it happened, and its traceback."""
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    return fresh


def _instance(cls: Any, provider: str) -> Any:
    try:
        return cls()
    except _LOAD_ERRORS as exc:
        reraise(exc, provider)


def _info_of(cls: Any, provider: str) -> ProviderInfo:
    if not isinstance(cls, type):
        raise PluginError(
            f"provider {provider!r} is {type(cls).__name__}, not a class",
            hint="let its entry point name a class, as in 'lmbridge_acme:Acme'",
        )
    info = getattr(cls, "info", None)
    if not isinstance(info, ProviderInfo):
        raise PluginError(
            f"provider {provider!r} has no 'info'",
            hint="give the class an attribute info = lmbridge.ProviderInfo(title=...)",
        )
    if info.api != API_VERSION:
        older = "lmbridge" if info.api > API_VERSION else f"provider {provider!r}"
        raise PluginError(
            f"provider {provider!r} is written for hook contract {info.api}, this lmbridge has {API_VERSION}",
            hint=f"update {older}",
        )
    return info
