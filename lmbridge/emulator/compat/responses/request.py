"""Reading a request of `/v1/responses`: lenient about unknown keys, strict about known ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmbridge.emulator import errors, mcp, pictures
from lmbridge.emulator.compat.request import common_job, effective_effort
from lmbridge.emulator.compat.responses.inputs import turns_of
from lmbridge.emulator.conversation import Conversation, Tool, Turn
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.http_support import present_record, present_token, text_of

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.job import Job


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of this route.

    Attributes:
        body: as it was sent.
        job: what to predict.
        history: the conversation that is stored: without the instructions, which hold for one answer only.
        store: whether the answer can be continued.
    """

    body: dict[str, Any]
    job: Job
    history: Conversation
    store: bool


async def read(core: Core, body: dict[str, Any]) -> Asked:
    """Check a request and make a job of it.

    Raises:
        EmulatedError: the request is refused.
    """
    model = core.instances.resolve(text_of(body, "model") or None, "llm")
    if "input" not in body:
        raise errors.missing("input")
    history = (*_previous(core, body), *turns_of(body["input"], core.settings))
    job = common_job(core, {**body, "max_tokens": body.get("max_output_tokens")}, model)
    instructions = text_of(body, "instructions")
    job.turns = (Turn("system", instructions), *history) if instructions else history
    seen = [picture for turn in history for picture in turn.pictures]
    core.check_vision(model, len(seen))
    job.sights = await pictures.look(seen, core.settings)
    job.tools, job.integrations = _tools(core, body.get("tools"))
    job.tool_choice = _tool_choice(body.get("tool_choice"))
    job.schema = _schema(core, body)
    job.effort, warning = effective_effort(_effort(body), model)
    if warning:
        present_record().warnings.append(warning)
    return Asked(body, job, history, store=body.get("store") is not False)


def _previous(core: Core, body: dict[str, Any]) -> Conversation:
    """Return the conversation that is continued."""
    previous = text_of(body, "previous_response_id")
    if previous is None:
        return ()
    found = core.chats.find(previous)
    if found is None:
        raise errors.no_previous_response(previous)
    return found


def _effort(body: dict[str, Any]) -> Any:
    reasoning = body.get("reasoning")
    return reasoning.get("effort") if isinstance(reasoning, dict) else None


def _schema(core: Core, body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the wanted JSON schema, if this server honours it here."""
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if not isinstance(form, dict) or form.get("type") in (None, "text"):
        return None
    if not core.settings.responses_structured_output:
        present_record().warnings.append("'text.format' is not supported on /v1/responses and was ignored")
        return None
    if form["type"] == "json_object":
        return {"type": "object"}
    if form["type"] != "json_schema" or not isinstance(form.get("schema"), dict):
        raise EmulatedError("Invalid type for 'text.format'.", code="invalid_union", param="text.format")
    return dict(form["schema"])


def _tool_choice(value: Any) -> str:
    if value is None:
        return "auto"
    if value not in ("none", "auto", "required"):
        shown = "type: 'object'" if isinstance(value, dict) else f"'{value}'"
        message = f"Invalid tool_choice {shown}. Supported string values: none, auto, required"
        raise EmulatedError(message, code="invalid_union", param="tool_choice")
    return str(value)


def _tools(core: Core, value: Any) -> tuple[tuple[Tool, ...], tuple[mcp.Integration, ...]]:
    """Return the client's own tools, and the MCP servers."""
    if value is None:
        return (), ()
    if not isinstance(value, list):
        raise EmulatedError("Invalid type for 'tools'.", code="invalid_type", param="tools")
    own: list[Tool] = []
    servers: list[mcp.Integration] = []
    for index, entry in enumerate(value):
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind == "function":
            own.append(_function(entry, index))
        elif kind == "mcp":
            token = present_token()
            servers.append(mcp.remote_tool(entry, core.settings, permitted=token is None or token.mcp))
        else:
            # Observed with Codex' `namespace` tools, bug-tracker#1810.
            raise EmulatedError("Invalid", code="invalid_string", param=f"tools.{index}.type")
    return tuple(own), tuple(servers)


def _function(entry: dict[str, Any], index: int) -> Tool:
    """Read a function tool, which is flat on this route."""
    if not isinstance(entry.get("name"), str):
        param = f"tools.{index}.name"
        raise EmulatedError(f"Missing required parameter: '{param}'.", code="invalid_type", param=param)
    parameters = entry.get("parameters")
    description = str(entry.get("description") or "")
    return Tool(entry["name"], description, parameters if isinstance(parameters, dict) else {})
