"""What the core registers with pluggy in the place of authors' objects.

Authors' instances may be equal, unhashable or full of properties; an adapter is compared by identity and
carries only the hooks. It also knows who is to blame (see :mod:`lmbridge.answers`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lmbridge.answers import AUTHOR_ERRORS, ITERATING, Begun, Source, awaited, blame, blamed, late, reraise
from lmbridge.chat import Options
from lmbridge.errors import LMBridgeError, PluginError, near_matches
from lmbridge.hookspecs import PROJECT, HookSpecs, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["MiddlewareAdapter", "ProviderAdapter", "spec_arguments"]

_MARK = f"{PROJECT}_impl"
#: Hooks that answer calls; a middleware may only wrap them.
_ANSWERING = frozenset(name for name in vars(HookSpecs) if not name.startswith("_")) - {"presets"}


def spec_arguments() -> dict[str, tuple[str, ...]]:
    """Return each hook's arguments by the hook's name."""
    hooks = {name: item for name, item in vars(HookSpecs).items() if inspect.isfunction(item)}
    return {name: tuple(inspect.signature(item).parameters)[1:] for name, item in hooks.items()}


_SPECS = spec_arguments()


class _Hook:
    """One hook of an author: the bound function, its options, and which arguments it takes."""

    __slots__ = ("function", "name", "options", "takes")

    def __init__(self, name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.takes = tuple(inspect.signature(function).parameters)

    def __call__(self, arguments: dict[str, Any]) -> Any:
        return self.function(*(arguments[name] for name in self.takes))


def _marked(owner: Any, attribute: str) -> dict[str, Any] | None:
    static = inspect.getattr_static(owner, attribute, None)
    function = getattr(static, "__func__", static)
    options = getattr(function, _MARK, None) if inspect.isroutine(function) else None
    return options if isinstance(options, dict) else None


def _check_signature(hook: _Hook, plugin: str) -> None:
    parameters = inspect.signature(hook.function).parameters.values()
    allowed = _SPECS[hook.name]
    for parameter in parameters:
        if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
            raise PluginError(
                f"hook {hook.name!r} of plugin {plugin!r} takes {parameter} in a way that pluggy cannot see",
                hint=f"write def {hook.name}(self, {', '.join(allowed)})",
            )
        if parameter.name not in allowed:
            raise PluginError(
                f"hook {hook.name!r} of plugin {plugin!r} takes an unknown argument {parameter.name!r}",
                hint=f"write def {hook.name}(self, {', '.join(allowed)})",
            )


def _hooks_of(owner: Any, plugin: str) -> list[_Hook]:
    """Return the author's hooks.

    Raises:
        PluginError: a hook is misspelt, unknown, unmarked or has the wrong arguments.
    """
    hooks = []
    for attribute in dir(owner):
        options = _marked(owner, attribute)
        if options is None:
            if attribute in _SPECS and not attribute.startswith("_"):
                raise PluginError(
                    f"{attribute!r} of plugin {plugin!r} is not marked as a hook",
                    hint="put @lmbridge.hookimpl above it",
                )
            continue
        name = options.get("specname") or attribute
        if name not in _SPECS:
            close = near_matches(name, _SPECS)
            raise PluginError(
                f"plugin {plugin!r} implements {name!r}, which is no hook of lmbridge",
                hint=f"did you mean {close[0]!r}?" if close else "see lmbridge.hookspecs for the hooks",
            )
        hook = _Hook(name, getattr(owner, attribute), options)
        _check_signature(hook, plugin)
        hooks.append(hook)
    return hooks


class ProviderAdapter:
    """The hooks of a provider's instance, for one connection."""

    def __init__(self, instance: Any, plugin: str) -> None:
        self.plugin = plugin
        hooks = _hooks_of(instance, plugin)
        self.names = frozenset(hook.name for hook in hooks)
        if not self.names & {"generate", "stream"}:
            raise PluginError(f"plugin {plugin!r} implements neither 'generate' nor 'stream'")
        for hook in hooks:
            if hook.name not in _ANSWERING:
                raise PluginError(
                    f"provider {plugin!r} implements {hook.name!r}, which is for middleware",
                    hint="move it to a plugin that is registered under 'lmbridge.plugins'",
                )
            if hook.options.get("wrapper") or hook.options.get("hookwrapper"):
                raise PluginError(f"hook {hook.name!r} of provider {plugin!r} must not be a wrapper")
            setattr(self, hook.name, hookimpl(self._forward(hook)))

    def _forward(self, hook: _Hook) -> Callable[..., Any]:
        takes, function = hook.takes, hook.function
        in_order = (
            takes == _SPECS[hook.name]
        )  # nearly every author takes all arguments as the spec names them

        def forward(arguments: dict[str, Any]) -> Any:
            try:
                value = function(*arguments.values()) if in_order else hook(arguments)
            except AUTHOR_ERRORS as exc:
                reraise(exc, self.plugin)
            checked = self._checked(hook.name, value)
            owned = arguments["context"].owned
            if isinstance(checked, Source):
                owned.append(checked)
            if inspect.iscoroutine(value):
                owned.append(Begun(checked, value))
            return checked

        return _with_spec(hook.name, forward)

    def _checked(self, hook: str, value: Any) -> Any:
        if hook in ITERATING:
            if not hasattr(value, "__aiter__") and inspect.isawaitable(value):
                value = late(value, self.plugin)
            if not hasattr(value, "__aiter__"):
                raise PluginError(
                    f"hook {hook!r} of plugin {self.plugin!r} returned {type(value).__name__}, "
                    "not an async iterator"
                )
            return Source(aiter(value), self.plugin)
        if not inspect.isawaitable(value):
            raise PluginError(
                f"hook {hook!r} of plugin {self.plugin!r} returned {type(value).__name__}, not an awaitable"
            )
        return awaited(value, self.plugin)


def _with_spec(hook: str, forward: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """Return ``forward`` with the hook's own arguments, which pluggy reads from the signature."""
    takes = _SPECS[hook]
    if takes == ("request", "context"):
        return lambda request, context: forward({"request": request, "context": context})
    if takes == ("context",):
        return lambda context: forward({"context": context})
    return lambda: forward({})


class MiddlewareAdapter:
    """The hooks of a middleware, each blamed for what it raises itself.

    Attributes:
        plugin: its name.
        names: the hooks it has.
        problem: what was wrong with its presets when they were last asked for.
    """

    def __init__(self, instance: Any, plugin: str) -> None:
        self.plugin = plugin
        self.problem: LMBridgeError | None = None
        hooks = _hooks_of(instance, plugin)
        self.names = frozenset(hook.name for hook in hooks)
        for hook in hooks:
            if hook.name not in _ANSWERING:
                setattr(self, hook.name, hookimpl(_with_spec(hook.name, self._offer(hook))))
                continue
            if not hook.options.get("wrapper"):
                raise PluginError(
                    f"middleware {plugin!r} implements {hook.name!r} without wrapper=True: "
                    "it would answer in the place of every connection",
                    hint="write @hookimpl(wrapper=True), or register it under 'lmbridge.providers'",
                )
            if not inspect.isgeneratorfunction(hook.function):
                raise PluginError(
                    f"wrapper {hook.name!r} of middleware {plugin!r} is no generator function",
                    hint=f"write def {hook.name}(self, {', '.join(_SPECS[hook.name])}) with one yield in it",
                )
            mark = hookimpl(
                wrapper=True,
                tryfirst=bool(hook.options.get("tryfirst")),
                trylast=bool(hook.options.get("trylast")),
            )
            setattr(self, hook.name, mark(self._wrap(hook)))

    def _offer(self, hook: _Hook) -> Callable[[dict[str, Any]], Any]:
        """Return what asks for presets: wrong ones cost nobody but their author."""

        def forward(arguments: dict[str, Any]) -> Any:
            try:
                offered = hook(arguments)
            except AUTHOR_ERRORS as exc:
                self.problem = blame(exc, self.plugin)
                return None
            if isinstance(offered, Mapping) and all(isinstance(item, Options) for item in offered.values()):
                self.problem = None
                return dict(offered)
            self.problem = PluginError(
                f"the presets of middleware {self.plugin!r} are no mapping of names to Options"
            )
            return None

        return forward

    def _wrap(self, hook: _Hook) -> Callable[..., Any]:
        takes = _SPECS[hook.name]
        if takes == ("context",):

            def wrap_context(context: Any) -> Generator[None, Any, Any]:
                return (yield from self._drive(hook, {"context": context}))

            return wrap_context

        def wrap(request: Any, context: Any) -> Generator[None, Any, Any]:
            return (yield from self._drive(hook, {"request": request, "context": context}))

        return wrap

    def _drive(self, hook: _Hook, arguments: dict[str, Any]) -> Generator[None, Any, Any]:
        """Run the author's wrapper around the inner call, telling its mistakes from the inner call's."""
        author: Generator[None, Any, Any] = hook(arguments)
        try:
            next(author)
        except StopIteration:
            raise PluginError(f"wrapper of middleware {self.plugin!r} returns before its yield") from None
        except AUTHOR_ERRORS as exc:
            reraise(exc, self.plugin)
        try:
            inner = yield
        except BaseException as exc:  # noqa: BLE001 - the author's wrapper decides about it, as in pluggy
            return blamed(self._resume(author, partial(author.throw, exc), exc), hook.name, self.plugin)
        outer = self._resume(author, partial(author.send, inner), None)
        return outer if outer is inner else blamed(outer, hook.name, self.plugin)

    def _resume(
        self, author: Generator[None, Any, Any], step: Callable[[], Any], inner_error: BaseException | None
    ) -> Any:
        try:
            step()
        except StopIteration as stop:
            return stop.value
        except BaseException as exc:
            if exc is inner_error or not isinstance(exc, AUTHOR_ERRORS):
                raise
            reraise(exc, self.plugin)
        author.close()
        raise PluginError(f"wrapper of middleware {self.plugin!r} yields more than once")
