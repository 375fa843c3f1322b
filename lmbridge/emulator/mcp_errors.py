"""What can go wrong with MCP servers, in the words of the routes that use them."""

from __future__ import annotations

from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.evidence import known


@known("observed", "a third-party client that was run against 0.4")
def plugin_denied(plugin: str) -> EmulatedError:
    """The token does not permit an MCP server."""
    return EmulatedError(
        f"Permission denied to use plugin {plugin}",
        status=403,
        code="permission_denied",
        param="integrations",
    )


@known("observed", "a third-party client that was run against 0.4")
def dead_plugin(plugin: str) -> EmulatedError:
    """An MCP plugin is not running."""
    kind = "plugin_connection_error"
    return EmulatedError(
        f"Cannot find plugin handle for plugin {plugin}", status=500, native_type=kind, code=kind
    )


@known("observed", "a third-party client that was run against 0.4")
def offline_plugin(plugin: str) -> EmulatedError:
    """An MCP plugin runs but does not list its tools."""
    kind = "plugin_connection_error"
    message = f"Unable to get plugin tools for plugin {plugin}"
    return EmulatedError(message, status=500, native_type=kind, code=kind)


@known("documented", "LM Studio docs, rest/streaming-events, the type")
@known("assumed", "lmstudio-bug-tracker#1073 has another case", "Its text names the server.")
def unreachable(label: str, *, native: bool) -> EmulatedError:
    """A remote MCP server does not answer."""
    kind = "mcp_connection_error"
    return EmulatedError(
        f"Failed to connect to MCP server '{label}'.",
        status=500,
        native_type=kind,
        code=kind if native else "http_error",
        param="integrations" if native else "tools",
        compat_type="external_connector_error",
    )


@known("observed", "lmstudio-bug-tracker#1073")
def no_server_url(label: str) -> EmulatedError:
    """An MCP tool of `/v1/responses` names no address, and no installed server."""
    return EmulatedError(
        f"Tool for MCP server '{label}' requires a non-empty 'server_url' for a remote MCP server connection "
        "to be attempted. To use this MCP server via a locally running LM Studio plugin, add this MCP server "
        'to your mcp.json configuration with a "url" field and set the LM Studio server\'s '
        'MCP mode to "all".',
        code="http_error",
        param="tools",
        compat_type="external_connector_error",
    )


@known("observed", "lmstudio-bug-tracker#1168, for a local one")
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
