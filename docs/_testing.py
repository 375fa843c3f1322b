"""The conformance kit and the fault server as Markdown."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from _docstrings import doc_of, table

from lmbridge.testing import Asked, Fault, FaultServer, ProviderConformance, Reply, Turn, WebSocket
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.conformance.failing import FAULTS

__all__ = ["TESTING"]

#: Bound by pytest, of no interest to a caller.
_HIDDEN = {"info", "needs", "bench"}


def _attributes(cls: type) -> str:
    return table(("attribute", "meaning"), ((f"`{name}`", text) for name, text in doc_of(cls).items.items()))


def _members(cls: type, *, ours: bool = False) -> str:
    rows = [row for name, member in vars(cls).items() if (row := _row(name, member, ours=ours))]
    return table(("member", "meaning"), rows)


def _row(name: str, member: Any, *, ours: bool) -> tuple[str, str] | None:
    if name.startswith("_") or (ours and name in _HIDDEN):
        return None
    if isinstance(member, property):
        return f"`{name}`", doc_of(member).text
    function = getattr(member, "__func__", member)
    function = getattr(function, "_fixture_function", None) or inspect.unwrap(function)
    if not inspect.isfunction(function):
        return None
    return f"`{_call(name, function)}`", doc_of(function).text


def _call(name: str, function: Callable[..., Any]) -> str:
    arguments = ", ".join(
        str(parameter).partition(":")[0].partition("=")[0].strip()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in {"self", "cls"} and parameter.kind is not parameter.KEYWORD_ONLY
    )
    keywords = [
        f"{parameter.name}=…"
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    inside = ", ".join(filter(None, [arguments, *keywords]))
    return f"{'await ' if inspect.iscoroutinefunction(function) else ''}{name}({inside})"


def _tests() -> str:
    return table(("test", "what it proves"), _test_rows())


def _test_rows() -> Iterator[tuple[str, str]]:
    for cls in ProviderConformance.__bases__:
        yield f"**{cls.__name__}**", doc_of(cls).text
        for name, member in vars(cls).items():
            if name.startswith("test_"):
                yield f"`{name}`", doc_of(member).text


def _faults() -> str:
    rows = []
    for name, case in FAULTS.items():
        classes = " or ".join(f"`{cls.__name__}`" for cls in case.classes)
        rows.append((f"`{name}`", classes, "no" if case.http else "yes"))
    return table(("fault", "right errors", "also over a WebSocket"), rows)


TESTING: Mapping[str, Callable[[], str]] = {
    "attributes": lambda: _attributes(Base),
    "methods": lambda: _members(Base, ours=True),
    "turn": lambda: _attributes(Turn),
    "tests": _tests,
    "faults": _faults,
    "server": lambda: _members(FaultServer),
    "replies": lambda: _members(Reply),
    "wrongs": lambda: _members(Fault),
    "asked": lambda: _attributes(Asked),
    "websocket": lambda: _members(WebSocket),
}
