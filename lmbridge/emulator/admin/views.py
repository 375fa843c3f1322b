"""What `/_emulator` shows of the inside, as JSON; keys and tokens are masked wherever they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lmbridge.emulator.switches import shown, shown_of, switches

if TYPE_CHECKING:
    from lmbridge.emulator.clock import Clock
    from lmbridge.emulator.gates import Gate
    from lmbridge.emulator.instances import Instance, Load
    from lmbridge.emulator.journal import RequestRecord
    from lmbridge.emulator.settings import Settings

SHORT = 500
"""Characters of a text that are shown unless the whole is asked for; a picture is a long text."""

_DEEP = 40
_LONGEST_SECRET = 500
_SECRET_NAMES = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "api_key",
        "apikey",
        "access_token",
        "token",
        "tokens",
        "password",
        "passkey",
        "clientpasskey",
        "secret",
        "client_secret",
        "cookie",
        "set-cookie",
    }
)
_SECRETS = re.compile(r"\bsk-[\w:-]{8,}|(?i:\bbearer\s+)\S+|(?<=://)[^/@\s]+(?=@)")
_RECORD = (
    "number",
    "route",
    "headers",
    "authenticated",
    "body",
    "size",
    "frames",
    "state",
    "reason",
    "disconnected",
    "status",
    "phase",
    "phases",
    "model",
    "tokens",
    "prompt_tokens",
    "stop_reason",
    "text",
    "warnings",
)


def record_view(record: RequestRecord, *, full: bool) -> dict[str, Any]:
    """Return a record of the journal."""
    limit = None if full else SHORT
    return {name: masked(getattr(record, name), limit) for name in _RECORD}


def masked(value: Any, limit: int | None = None, depth: int = 0) -> Any:
    """Return JSON without what may be secret: values of telling names, headers, and what looks like a key.

    Args:
        value: JSON.
        limit: longer texts are cut.
        depth: how deep it stands; what is nested too deeply is left out.
    """
    if depth > _DEEP:
        return "…"
    if isinstance(value, dict):
        return {
            masked(str(name), limit): _member(str(name), item, limit, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [masked(item, limit, depth + 1) for item in value]
    return _text(value, limit) if isinstance(value, str) else value


def _member(name: str, value: Any, limit: int | None, depth: int) -> Any:
    """Return a member of an object; headers that a request brings for another server are all secret."""
    if name.lower() in _SECRET_NAMES and isinstance(value, (str, list, dict)):
        return "***"
    if name.lower() == "headers" and isinstance(value, dict):
        return {masked(str(key), limit): "***" for key in value}
    return masked(value, limit, depth)


def _text(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return _SECRETS.sub("***", text)
    # More than is shown is looked at, lest half a key remains at the cut.
    return f"{_SECRETS.sub('***', text[: limit + _LONGEST_SECRET])[:limit]}… ({len(text)} characters)"


def instance_view(instance: Instance, clock: Clock) -> dict[str, Any]:
    """Return a loaded instance."""
    idle = None if instance.running else max(clock.now() - instance.last_used, 0.0)
    return {
        "id": instance.id,
        "model": instance.model.key,
        "type": instance.model.kind,
        "config": instance.config,
        "loaded_on_request": instance.on_request,
        "ttl_seconds": instance.ttl_s,
        "idle_seconds": idle,
        "status": instance.status,
        "running": instance.busy,
        "queued": len(instance.running) - instance.busy,
    }


def load_view(load: Load) -> dict[str, Any]:
    """Return a load in progress."""
    return {
        "id": load.identifier,
        "model": load.model.key,
        "progress": load.progress[-1] if load.progress else 0.0,
    }


def gate_view(gate: Gate) -> dict[str, Any]:
    """Return a gate."""
    return {
        "id": gate.number,
        "phase": gate.phase,
        "after": gate.after,
        "model": gate.model,
        "waiting": gate.waiting,
        "arrived": gate.arrived,
    }


def switch_table(settings: Settings) -> list[dict[str, Any]]:
    """Return all switches with their present values."""
    return [
        {
            "name": switch.name,
            "value": shown_of(settings, switch.name),
            "default": shown(switch.default),
            "takes": switch.kind,
            "evidence": switch.evidence,
            "source": switch.source,
            "meaning": switch.meaning,
        }
        for switch in switches()
    ]
