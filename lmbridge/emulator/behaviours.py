"""One table of all that the emulator does and how each of it is known, gathered from the code.

What has no entry in it is found by `unmarked`, so that no new route, call, channel or error is forgotten.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import app, engine_errors, errors, lifecycle_facts, mcp_errors
from lmbridge.emulator.evidence import Fact, facts_of
from lmbridge.emulator.native import stream_facts
from lmbridge.emulator.sdk import packet_facts, rpc, socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lmbridge.emulator.settings import Evidence

ROUTES = "HTTP routes"
EVENTS = "Events of `/api/v1/chat`"
CALLS = "Remote calls of the SDK"
CHANNELS = "Channels of the SDK"
PACKETS = "Packets of the channels"
ENGINE = "Models, requests and the engine"
ERRORS = "Errors"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One row.

    Attributes:
        area: the part of the table.
        subject: what does it: a route, an event, an error, ...
        says: what the emulator does.
        evidence: how that is known.
        source: where it is known from.
    """

    area: str
    subject: str
    says: str
    evidence: Evidence
    source: str


def behaviours() -> list[Behaviour]:
    """Return all rows, area by area."""
    rows = [_row(area, subject, fact) for area, subject, made in _marked() for fact in facts_of(made)]
    listed = (
        (EVENTS, stream_facts.EVENTS),
        (PACKETS, packet_facts.PACKETS),
        (ENGINE, lifecycle_facts.FACTS),
    )
    for area, facts in listed:
        named = "{}" if area == ENGINE else "`{}`"
        rows += [_row(area, named.format(fact.subject), fact) for fact in facts]
    order = [ROUTES, EVENTS, CALLS, CHANNELS, PACKETS, ENGINE, ERRORS]
    return sorted(rows, key=lambda row: order.index(row.area))


def unmarked() -> list[str]:
    """Return what does something and does not say how that is known."""
    return [f"{area}: {subject}" for area, subject, made in _marked() if not facts_of(made)]


def _row(area: str, subject: str, fact: Fact) -> Behaviour:
    return Behaviour(area, subject, fact.says, fact.evidence, fact.source)


def _marked() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield area, subject and function of all that has to say how it is known."""
    yield ROUTES, "`GET /lmstudio-greeting`", app.greeting
    for (method, path), handler in {**app.NATIVE, **app.COMPATIBLE}.items():
        yield ROUTES, f"`{method} {path.replace(':.+', '')}`", handler
    yield ROUTES, "any other route", app.unknown_route
    yield CHANNELS, "the websocket", socket.serve
    for area, table in ((CALLS, rpc.CALLS), (CHANNELS, socket.CHANNELS)):
        yield from _by_function(area, table)
    for module in (errors, mcp_errors, engine_errors):
        for name, made in inspect.getmembers(module, inspect.isfunction):
            if made.__module__ == module.__name__ and not name.startswith("_"):
                yield ERRORS, name.replace("_", " "), made


def _by_function(
    area: str, table: dict[tuple[str, str], Any]
) -> Iterable[tuple[str, str, Callable[..., Any]]]:
    """Yield each function once, with all namespaces that have it."""
    found: dict[tuple[str, Any], list[str]] = {}
    for (namespace, endpoint), function in table.items():
        found.setdefault((endpoint, function), []).append(namespace)
    for (endpoint, function), namespaces in found.items():
        yield area, f"`{endpoint}` ({', '.join(namespaces)})", function
