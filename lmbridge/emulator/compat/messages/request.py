"""Reading a request of `/v1/messages`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import pictures
from lmbridge.emulator.compat.messages.inputs import malformed, turns_of
from lmbridge.emulator.compat.request import common_job, effective_effort
from lmbridge.emulator.conversation import Tool
from lmbridge.emulator.http_support import present_record, text_of

if TYPE_CHECKING:
    from lmbridge.emulator.core import Core
    from lmbridge.emulator.job import Job

_EFFORTS = {"disabled": "none", "enabled": "medium"}
"""What `thinking.type` means to the model; anything else is its default (assumed)."""
_CHOICES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


async def read(core: Core, body: dict[str, Any]) -> Job:
    """Check a request and make a job of it.

    Raises:
        EmulatedError: the request is refused.
    """
    model = core.instances.resolve(text_of(body, "model") or None, "llm")
    if body.get("max_tokens") is None and core.settings.messages_max_tokens_required:
        raise malformed("max_tokens", "Required")
    turns = turns_of(body, core.settings)
    seen = [picture for turn in turns for picture in turn.pictures]
    core.check_vision(model, len(seen))
    job = common_job(core, {**body, "stop": body.get("stop_sequences")}, model)
    job.turns = turns
    job.sights = await pictures.look(seen, core.settings)
    job.tools = _tools(body.get("tools"))
    _choose(job, body.get("tool_choice"))
    thinking = body.get("thinking")
    asked = _EFFORTS.get(str(thinking.get("type"))) if isinstance(thinking, dict) else None
    job.effort, warning = effective_effort(asked, model)
    if warning:
        present_record().warnings.append(warning)
    return job


def _tools(value: Any) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise malformed("tools")
    return tuple(_tool(entry, f"tools.{index}") for index, entry in enumerate(value))


def _tool(entry: Any, place: str) -> Tool:
    """Read a tool; those that only Anthropic's own servers can run have no schema and are refused."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise malformed(f"{place}.name", "Required")
    if not isinstance(entry.get("input_schema"), dict):
        raise malformed(f"{place}.input_schema", "Required")
    return Tool(entry["name"], str(entry.get("description") or ""), entry["input_schema"])


def _choose(job: Job, value: Any) -> None:
    """Apply `tool_choice`; a named tool is the only one that is left."""
    if value is None:
        return
    kind = str(value.get("type")) if isinstance(value, dict) else ""
    if kind not in _CHOICES:
        raise malformed("tool_choice")
    job.tool_choice = _CHOICES[kind]
    if kind == "tool":
        job.tools = tuple(tool for tool in job.tools if tool.name == value.get("name"))
        if not job.tools:
            raise malformed("tool_choice.name")
