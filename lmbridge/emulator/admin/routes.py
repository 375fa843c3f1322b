"""The routes of `/_emulator`; `GET /_emulator` lists them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, get_args

from lmbridge.emulator.admin import views
from lmbridge.emulator.admin.guard import AdminError, body_of, check_caller
from lmbridge.emulator.core import ResetPart
from lmbridge.emulator.gates import PHASES
from lmbridge.emulator.http_support import CORE, Handler, json_response
from lmbridge.emulator.switches import SwitchError, changed, shown_of

if TYPE_CHECKING:
    from aiohttp import web

    from lmbridge.emulator.core import Core
    from lmbridge.emulator.gates import Gate
    from lmbridge.emulator.journal import RequestRecord

PREFIX = "/_emulator"
MAX_WAIT = 60.0
"""How long a request may wait for something to happen, in seconds."""


def concerns(path: str) -> bool:
    """Tell whether a request is for this interface."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a request for this interface; every refusal is JSON with `error.type` and `error.message`."""
    try:
        check_caller(request)
        response = await handler(request)
    except (AdminError, SwitchError) as problem:
        error = problem if isinstance(problem, AdminError) else _refused(problem)
        response = json_response(error.body(), error.status)
    response.headers["Cache-Control"] = "no-store"
    return response


def _refused(error: SwitchError) -> AdminError:
    return AdminError(str(error), kind=error.kind, name=error.name, hint=error.hint)


async def index(_request: web.Request) -> web.StreamResponse:
    """What there is."""
    listed = [
        {"method": method, "path": PREFIX + path, "does": (handler.__doc__ or "").partition("\n")[0]}
        for (method, path), handler in ROUTES.items()
    ]
    return json_response({"routes": listed})


async def show_switches(request: web.Request) -> web.StreamResponse:
    """All switches: value, default, what they take, how that is known, and what they mean."""
    table = await asyncio.to_thread(views.switch_table, request.app[CORE].settings)
    return json_response({"switches": table})


async def turn_switches(request: web.Request) -> web.StreamResponse:
    """Change switches by name: all that are named, or none."""
    core = request.app[CORE]
    changes = await body_of(request)
    if "admin" in changes:
        raise SwitchError("admin cannot be changed from here", kind="invalid_value", name="admin")
    try:
        core.configure(changed(core.settings, changes))
    except SwitchError:
        raise
    except ValueError as error:
        raise SwitchError(str(error), kind="invalid_value", name="loaded") from None
    touched = dict.fromkeys(name.partition(".")[0] for name in changes)
    return json_response({"changed": {name: shown_of(core.settings, name) for name in touched}})


async def show_requests(request: web.Request) -> web.StreamResponse:
    """The requests, filtered by `after`, `route`, `state`, `model`; `wait` seconds until there is one."""
    core, query = request.app[CORE], request.query
    after, full = _number(query.get("after"), "after", 0), query.get("full") in ("1", "true")
    wanted = max(int(_number(query.get("count"), "count", 1)), 1)

    def found() -> list[RequestRecord]:
        return [record for record in core.journal.records if record.number > after and _fits(record, query)]

    if "wait" in query:
        await _until(core, lambda: len(found()) >= wanted, query.get("wait"))
    return json_response({"requests": [views.record_view(record, full=full) for record in found()]})


def _fits(record: RequestRecord, query: Any) -> bool:
    return (
        record.route.endswith(query.get("route", ""))
        and query.get("state", record.state) == record.state
        and query.get("phase", record.phase) == record.phase
        and query.get("model", record.model) == record.model
    )


async def show_instances(request: web.Request) -> web.StreamResponse:
    """The loaded instances, and what is being loaded."""
    core = request.app[CORE]
    loaded = [views.instance_view(instance, core.clock) for instance in core.instances.loaded()]
    loading = [views.load_view(load) for load in core.instances.loading]
    return json_response({"instances": loaded, "loading": loading})


async def move_clock(request: web.Request) -> web.StreamResponse:
    """Put the clock forward by `advance` seconds: idle models expire, what sleeps wakes."""
    core = request.app[CORE]
    seconds = (await body_of(request, "advance")).get("advance")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
        raise AdminError("'advance' has to be a number of seconds", kind="invalid_value", name="advance")
    core.advance(seconds)
    return json_response({"now": core.clock.now()})


async def drop_sockets(request: web.Request) -> web.StreamResponse:
    """Reset all websockets, as a restart of the application does."""
    core = request.app[CORE]
    await body_of(request)
    count = len(core.sockets)
    core.drop_sockets()
    return json_response({"dropped": count})


async def reset(request: web.Request) -> web.StreamResponse:
    """Set the emulator back to its start, or only the named `parts`."""
    core = request.app[CORE]
    known = get_args(ResetPart)
    parts = (await body_of(request, "parts")).get("parts", list(known))
    if not isinstance(parts, list) or any(part not in known for part in parts):
        raise AdminError(
            "'parts' has to be a list", kind="invalid_value", name="parts", hint=f"known: {', '.join(known)}"
        )
    core.reset(parts)
    return json_response({"reset": parts})


async def show_gates(request: web.Request) -> web.StreamResponse:
    """The closed gates."""
    return json_response({"gates": [views.gate_view(gate) for gate in request.app[CORE].gates.closed()]})


async def hold(request: web.Request) -> web.StreamResponse:
    """Hold work in a `phase`, `after` so many steps, of one `model` or all."""
    core = request.app[CORE]
    body = await body_of(request, "phase", "after", "model")
    after, model = body.get("after", 0), body.get("model")
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise AdminError("'after' has to be a number of steps", kind="invalid_value", name="after")
    if model is not None and core.instances.find_model(str(model)) is None:
        raise AdminError(f"no model {model!r}", kind="invalid_value", name="model")
    if body.get("phase") not in PHASES:
        hint = f"one of {', '.join(PHASES)}"
        raise AdminError("there is no such phase", kind="invalid_value", name="phase", hint=hint)
    gate = core.gates.hold(body["phase"], after=after, model=model)
    return json_response(views.gate_view(gate), 201)


async def show_gate(request: web.Request) -> web.StreamResponse:
    """One gate; `wait` seconds until `arrived` pieces of work have come to it."""
    core, query = request.app[CORE], request.query
    gate = _gate(request)
    if "wait" in query:
        wanted = max(int(_number(query.get("arrived"), "arrived", 1)), 1)
        seconds = _seconds(query.get("wait"))
        try:
            await gate.reached(wanted, seconds)
        except TimeoutError as error:
            raise AdminError(str(error), kind="timeout", status=504) from None
        core.journal.pulse()
    return json_response(views.gate_view(gate))


async def release(request: web.Request) -> web.StreamResponse:
    """Open one gate."""
    gate = _gate(request)
    await body_of(request)
    gate.release()
    return json_response(views.gate_view(gate))


async def release_all(request: web.Request) -> web.StreamResponse:
    """Open all gates, or those of one `phase`."""
    gates = request.app[CORE].gates
    phase = (await body_of(request, "phase")).get("phase")
    if phase is not None and phase not in PHASES:
        hint = f"one of {', '.join(PHASES)}"
        raise AdminError("there is no such phase", kind="invalid_value", name="phase", hint=hint)
    opened = [gate for gate in gates.closed() if phase in (None, gate.phase)]
    gates.release(phase)
    return json_response({"released": [views.gate_view(gate) for gate in opened]})


async def unknown(request: web.Request) -> web.StreamResponse:
    """Refuse what is no route."""
    message = f"no route {request.method} {request.path}"
    raise AdminError(message, kind="unknown_route", status=404, hint=f"GET {PREFIX} lists the routes")


def _gate(request: web.Request) -> Gate:
    number = request.match_info["number"]
    gate = next((gate for gate in request.app[CORE].gates.closed() if str(gate.number) == number), None)
    if gate is None:
        raise AdminError(f"no closed gate {number}", kind="unknown_gate", status=404, name=number)
    return gate


async def _until(core: Core, true: Any, wait: str | None) -> None:
    try:
        await core.journal.wait_for(true, _seconds(wait))
    except TimeoutError as error:
        raise AdminError(views.masked(str(error)), kind="timeout", status=504) from None


def _seconds(text: str | None) -> float:
    return min(_number(text, "wait", 10.0), MAX_WAIT)


def _number(text: str | None, name: str, default: float) -> float:
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        raise AdminError(f"'{name}' has to be a number of at least 0", kind="invalid_value", name=name)
    return value


ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", ""): index,
    ("GET", "/switches"): show_switches,
    ("PATCH", "/switches"): turn_switches,
    ("POST", "/switches"): turn_switches,
    ("GET", "/requests"): show_requests,
    ("GET", "/instances"): show_instances,
    ("POST", "/clock"): move_clock,
    ("POST", "/sockets/drop"): drop_sockets,
    ("POST", "/reset"): reset,
    ("GET", "/gates"): show_gates,
    ("POST", "/gates"): hold,
    ("POST", "/gates/release"): release_all,
    ("GET", "/gates/{number}"): show_gate,
    ("POST", "/gates/{number}/release"): release,
}


def add_routes(app: web.Application) -> None:
    """Add the routes to the server's application."""
    for (method, path), handler in ROUTES.items():
        app.router.add_route(method, PREFIX + path, handler)
    app.router.add_route("*", PREFIX, unknown)
    app.router.add_route("*", PREFIX + "/{tail:.*}", unknown)
