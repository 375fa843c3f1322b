"""What can go wrong with MCP servers, in the words of the routes that use them."""

from __future__ import annotations

from lmbridge.emulator.errors import EmulatedError


def plugin_denied(plugin: str) -> EmulatedError:
    """The token does not permit an MCP server (observed by a third-party client)."""
    return EmulatedError(
        f"Permission denied to use plugin {plugin}",
        status=403,
        code="permission_denied",
        param="integrations",
    )


def dead_plugin(plugin: str) -> EmulatedError:
    """An MCP plugin is not running (observed by a third-party client)."""
    kind = "plugin_connection_error"
    return EmulatedError(
        f"Cannot find plugin handle for plugin {plugin}", status=500, native_type=kind, code=kind
    )


def offline_plugin(plugin: str) -> EmulatedError:
    """An MCP plugin runs but does not list its tools (observed by a third-party client)."""
    kind = "plugin_connection_error"
    message = f"Unable to get plugin tools for plugin {plugin}"
    return EmulatedError(message, status=500, native_type=kind, code=kind)


def unreachable(label: str, *, native: bool) -> EmulatedError:
    """A remote MCP server does not answer (types: rest/streaming-events, bug-tracker#1073; text assumed)."""
    kind = "mcp_connection_error"
    return EmulatedError(
        f"Failed to connect to MCP server '{label}'.",
        status=500,
        native_type=kind,
        code=kind if native else "http_error",
        param="integrations" if native else "tools",
        compat_type="external_connector_error",
    )


def no_server_url(label: str) -> EmulatedError:
    """An MCP tool of `/v1/responses` names no address, and no installed server (bug-tracker#1073)."""
    return EmulatedError(
        f"Tool for MCP server '{label}' requires a non-empty 'server_url' for a remote MCP server connection "
        "to be attempted. To use this MCP server via a locally running LM Studio plugin, add this MCP server "
        'to your mcp.json configuration with a "url" field and set the LM Studio server\'s '
        'MCP mode to "all".',
        code="http_error",
        param="tools",
        compat_type="external_connector_error",
    )


def denied(label: str, place: str) -> EmulatedError:
    """The settings or the token forbid an MCP server of `/v1/responses`.

    The text for a `local` one was observed (bug-tracker#1168); that for a `remote` one is assumed.
    """
    return EmulatedError(
        f"Permission denied to use {place} MCP server '{label}'. Ensure that the server configuration allows "
        f"{place} integrations and that your API token has the necessary permissions.",
        status=403,
        param="tools",
    )
