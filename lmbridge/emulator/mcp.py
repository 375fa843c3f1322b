"""The MCP servers of the emulated machine, whose tools `/api/v1/chat` runs itself."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lmbridge.emulator import errors, mcp_errors
from lmbridge.emulator.conversation import Tool, ToolCall
from lmbridge.emulator.errors import EmulatedError

if TYPE_CHECKING:
    from lmbridge.emulator.settings import Settings

_TEXT = {"type": "string"}
PLUGINS: dict[str, tuple[Tool, ...]] = {
    "mcp/playwright": (
        Tool(
            "browser_navigate",
            "Open a page",
            {"type": "object", "properties": {"url": _TEXT}, "required": ["url"]},
        ),
        Tool("browser_snapshot", "Describe the page", {"type": "object", "properties": {}}),
    ),
    "mcp/files": (
        Tool(
            "read_file",
            "Read a file",
            {"type": "object", "properties": {"path": _TEXT}, "required": ["path"]},
        ),
    ),
}
"""Installed plugins (mcp.json) and their tools."""

OFFLINE = "mcp/offline"
"""An installed plugin that never lists its tools."""

UNREACHABLE = ".invalid"
"""The end of the host names of remote servers that do not answer (RFC 2606)."""

_TYPES: dict[Any, type] = {"string": str, "integer": int}

EPHEMERAL: tuple[Tool, ...] = (
    Tool(
        "model_search",
        "Search models",
        {
            "type": "object",
            "properties": {"query": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": 9}},
        },
    ),
)
"""What every server that a request brings along offers."""


@dataclass(frozen=True, slots=True)
class Integration:
    """An MCP server that a request may use.

    Attributes:
        provider: `provider_info` of its calls.
        tools: what it offers to this request.
        problem: why it cannot be used; noticed when the tools are listed.
    """

    provider: dict[str, Any]
    tools: tuple[Tool, ...]
    problem: EmulatedError | None = None

    @property
    def label(self) -> str:
        """The server's name as `/v1/responses` shows it."""
        return str(self.provider.get("server_label") or self.provider["plugin_id"].removeprefix("mcp/"))

    def refusal(self, call: ToolCall) -> str | None:
        """Return why the arguments of a call are invalid, None if they are not."""
        tool = next(entry for entry in self.tools if entry.name == call.name)
        for name in tool.parameters.get("required", ()):
            if name not in call.arguments:
                return f"Invalid arguments for tool {call.name}: '{name}' is required"
        for name, value in call.arguments.items():
            wanted = tool.parameters.get("properties", {}).get(name, {}).get("type")
            if not isinstance(value, _TYPES.get(wanted, object)):
                return f"Invalid arguments for tool {call.name}: '{name}' must be of type {wanted}"
        return None

    def run(self, call: ToolCall) -> str:
        """Return the deterministic result of a tool."""
        content = f"{call.name} was run with {call.arguments_json()}"
        return json.dumps([{"type": "text", "text": content}], ensure_ascii=False)


def integrations(value: Any, settings: Settings, *, permitted: bool) -> tuple[Integration, ...]:
    """Read the `integrations` of `/api/v1/chat`.

    An installed plugin that does not exist is a dead one: a real server notices when it calls it.

    Raises:
        EmulatedError: malformed (400) or not permitted (403).
    """
    if not isinstance(value, list):
        raise errors.wrong_type("integrations", "array")
    return tuple(_one(entry, settings, permitted=permitted) for entry in value)


def _one(entry: Any, settings: Settings, *, permitted: bool) -> Integration:
    if isinstance(entry, str):
        entry = {"type": "plugin", "id": entry}
    kind = entry.get("type") if isinstance(entry, dict) else None
    if kind == "plugin":
        return _plugin(entry, settings, permitted=permitted)
    if kind == "ephemeral_mcp":
        return _ephemeral(entry, settings, permitted=permitted)
    raise EmulatedError(
        "Invalid discriminator value. Expected 'plugin' | 'ephemeral_mcp'",
        code="invalid_union",
        param="integrations",
    )


def _plugin(entry: dict[str, Any], settings: Settings, *, permitted: bool) -> Integration:
    _strict(entry, {"type", "id", "allowed_tools"}, "id")
    name = str(entry["id"])
    if not (permitted and settings.mcp_servers_allowed):
        raise mcp_errors.plugin_denied(name)
    return _installed(name, entry)


def _installed(name: str, entry: dict[str, Any]) -> Integration:
    problem = None
    if name not in PLUGINS:
        problem = mcp_errors.offline_plugin(name) if name == OFFLINE else mcp_errors.dead_plugin(name)
    return Integration({"type": "plugin", "plugin_id": name}, _allowed(PLUGINS.get(name, ()), entry), problem)


def _ephemeral(entry: dict[str, Any], settings: Settings, *, permitted: bool) -> Integration:
    _strict(
        entry,
        {"type", "server_label", "server_url", "allowed_tools", "headers"},
        "server_label",
        "server_url",
    )
    if not (permitted and settings.ephemeral_mcp_allowed):
        raise mcp_errors.plugin_denied(str(entry["server_label"]))
    return _remote(entry, settings, "integrations")


def _remote(entry: dict[str, Any], settings: Settings, param: str) -> Integration:
    label, url = str(entry["server_label"]), urlsplit(str(entry["server_url"]))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise EmulatedError("Invalid MCP server URL.", code="invalid_string", param=param)
    if settings.ephemeral_mcp_public_only and _local(url.hostname):
        message = f"MCP server '{label}' has a local address, which is not allowed."
        raise EmulatedError(
            message, native_type="mcp_connection_error", param=param, compat_type="external_connector_error"
        )
    gone = url.hostname.endswith(UNREACHABLE)
    problem = mcp_errors.unreachable(label, native=param == "integrations") if gone else None
    return Integration({"type": "ephemeral_mcp", "server_label": label}, _allowed(EPHEMERAL, entry), problem)


def remote_tool(entry: dict[str, Any], settings: Settings, *, permitted: bool) -> Integration:
    """Read a tool of type `mcp` of `/v1/responses`.

    With a `server_url` it is a remote server, without one an installed plugin.

    Raises:
        EmulatedError: malformed (400) or not permitted (403).
    """
    label = entry.get("server_label")
    if not isinstance(label, str) or not label:
        raise EmulatedError("Invalid", code="invalid_string", param="tools.server_label")
    if entry.get("server_url"):
        if not (permitted and settings.ephemeral_mcp_allowed):
            raise mcp_errors.denied(label, "remote")
        return _remote(entry, settings, "tools")
    if f"mcp/{label}" not in PLUGINS:
        raise mcp_errors.no_server_url(label)
    if not (permitted and settings.mcp_servers_allowed):
        raise mcp_errors.denied(label, "local")
    return _installed(f"mcp/{label}", entry)


def _strict(entry: dict[str, Any], known: set[str], *required: str) -> None:
    if extra := [key for key in entry if key not in known]:
        raise errors.unknown_keys(extra)
    for key in required:
        if not isinstance(entry.get(key), str):
            raise errors.missing(f"integrations.{key}")


def _allowed(tools: tuple[Tool, ...], entry: dict[str, Any]) -> tuple[Tool, ...]:
    allowed = entry.get("allowed_tools")
    if allowed is not None and not _all_strings(allowed, list):
        raise errors.wrong_type("allowed_tools", "array")
    if entry.get("headers") is not None and not _all_strings(entry["headers"], dict):
        raise errors.wrong_type("headers", "object")
    return tuple(tool for tool in tools if allowed is None or tool.name in allowed)


def _all_strings(value: Any, kind: type[list[Any] | dict[str, Any]]) -> bool:
    """Tell whether this is an array, or an object, of strings."""
    values = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) and all(isinstance(entry, str) for entry in values)


def _local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
