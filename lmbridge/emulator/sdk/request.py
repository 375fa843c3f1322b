"""Reading what the SDK sends for a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmbridge.emulator import pictures
from lmbridge.emulator.compat.request import tool_of
from lmbridge.emulator.conversation import Conversation, Picture, Tool, ToolCall, Turn
from lmbridge.emulator.errors import EmulatedError
from lmbridge.emulator.job import Job
from lmbridge.emulator.sdk.info import Fields, fields_of

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.instances import Instance
    from lmbridge.emulator.sdk.channel import Peer

PREFIX = "llm.prediction."
_PLAIN = {"temperature": "temperature", "topKSampling": "top_k"}
_CHECKED = {
    "topPSampling": "top_p",
    "minPSampling": "min_p",
    "repeatPenalty": "repeat_penalty",
    "maxPredictedTokens": "max_tokens",
    "seed": "seed",
    "llama.presencePenalty": "presence_penalty",
    "llama.frequencyPenalty": "frequency_penalty",
}


async def prediction_job(peer: Peer, instance: Instance, parameter: dict[str, Any], history: Any) -> Job:
    """Make a job of the creation parameter of `predict` and a history.

    Raises:
        EmulatedError: it is malformed, or has pictures for a model without eyes.
    """
    stack = parameter.get("predictionConfigStack")
    fields = fields_of(stack)
    turns = conversation(peer, history)
    seen = [picture for turn in turns for picture in turn.pictures]
    peer.core.check_vision(instance.model, len(seen))
    options = _options(fields)
    schema, grammar = _structure(fields)
    return Job(
        model=instance.model,
        asked_model=instance.id,
        instance=instance,
        turns=turns,
        sights=await pictures.look(seen, peer.core.settings),
        options=options,
        max_tokens=options.get("max_tokens"),
        stop=tuple(options.get("stop", ())),
        seed=options.get("seed"),
        schema=schema,
        grammar=grammar,
        tools=_tools(fields),
        tool_choice=_tool_choice(fields),
        effort=_effort(fields, instance.model),
        stop_at_context=fields.get(f"{PREFIX}contextOverflowPolicy") == "stopAtLimit",
        completion=_completion(stack),
    )


def conversation(peer: Peer, history: Any) -> Conversation:
    """Read a history.

    Raises:
        EmulatedError: it is malformed, or names a file that this client has not uploaded.
    """
    messages = history.get("messages") if isinstance(history, dict) else None
    if not isinstance(messages, list):
        raise EmulatedError("Invalid history: 'messages' is required")
    return tuple(_turn(peer, message) for message in messages)


def _turn(peer: Peer, message: Any) -> Turn:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "user", "assistant", "tool"):
        raise EmulatedError("Invalid history: unknown role")
    texts: list[str] = []
    images: list[Picture] = []
    calls: list[ToolCall] = []
    call_id: str | None = None
    for part in message.get("content") or ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind == "file":
            images.append(_file(peer, part))
        elif kind == "toolCallRequest":
            calls.append(_call(part.get("toolCallRequest") or {}))
        elif kind == "toolCallResult":
            texts.append(str(part.get("content", "")))
            call_id = part.get("toolCallId")
        else:
            raise EmulatedError(f"Invalid history: unknown part {kind!r}")
    return Turn(str(role), "\n".join(texts), tuple(images), tuple(calls), call_id)


def _file(peer: Peer, part: dict[str, Any]) -> Picture:
    identifier = str(part.get("identifier"))
    picture = peer.core.files.get(peer.client, identifier)
    if picture is None:
        raise EmulatedError(f"File with identifier '{identifier}' not found.")
    return picture


def _call(request: dict[str, Any]) -> ToolCall:
    arguments = request.get("arguments")
    return ToolCall(
        str(request.get("id", "")),
        str(request.get("name", "")),
        arguments if isinstance(arguments, dict) else {},
    )


def _options(fields: Fields) -> dict[str, Any]:
    """Return the options by their canonical names.

    Raises:
        EmulatedError: a number is none, as in the malformed `{"checked": true, "value": false}`.
    """
    options: dict[str, Any] = {}
    for name, canonical in _PLAIN.items():
        if fields.get(PREFIX + name) is not None:
            options[canonical] = _number(name, fields[PREFIX + name])
    for name, canonical in _CHECKED.items():
        value = fields.get(PREFIX + name)
        if isinstance(value, dict) and value.get("checked"):
            options[canonical] = _number(name, value.get("value"))
    if stops := fields.get(f"{PREFIX}stopStrings"):
        options["stop"] = [str(stop) for stop in stops]
    if model := fields.get(f"{PREFIX}speculativeDecoding.draftModel"):
        options["draft_model"] = str(model)
    if f"{PREFIX}reasoning.enableThinking" in fields:
        options["thinking"] = bool(fields[f"{PREFIX}reasoning.enableThinking"])
    return options


def _number(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EmulatedError(f"Invalid value for {PREFIX}{name}: expected number")
    whole = name in ("maxPredictedTokens", "seed", "topKSampling")
    return int(value) if whole else value


def _structure(fields: Fields) -> tuple[dict[str, Any] | None, str | None]:
    """Return the JSON schema and the grammar."""
    setting = fields.get(f"{PREFIX}structured")
    if not isinstance(setting, dict):
        return None, None
    kind = setting.get("type")
    if kind == "json":
        schema = setting.get("jsonSchema")
        return schema if isinstance(schema, dict) else {"type": "object"}, None
    if kind == "gbnf":
        return None, str(setting.get("gbnfGrammar", ""))
    return None, None


def _tools(fields: Fields) -> tuple[Tool, ...]:
    setting = fields.get(f"{PREFIX}tools")
    listed = (
        setting.get("tools") if isinstance(setting, dict) and setting.get("type") == "toolArray" else None
    )
    return tuple(tool_of(entry) for entry in listed or ())


def _tool_choice(fields: Fields) -> str:
    choice = fields.get(f"{PREFIX}toolChoice")
    mode = choice.get("mode") if isinstance(choice, dict) and choice.get("type") == "generic" else None
    return str(mode) if mode in ("none", "auto", "required") else "auto"


def _effort(fields: Fields, model: CatalogModel) -> str:
    if not model.reasoning:
        return "off"
    if fields.get(f"{PREFIX}reasoning.enableThinking") is False and "off" in model.reasoning:
        return "off"
    return model.reasoning_default


def _completion(stack: Any) -> bool:
    """Tell whether a text is to be continued: the Python SDK says so by a layer of its own."""
    layers = stack.get("layers") if isinstance(stack, dict) else None
    return any(
        isinstance(layer, dict) and layer.get("layerName") == "completeModeFormatting"
        for layer in layers or ()
    )


def parses_reasoning(parameter: dict[str, Any]) -> bool:
    """Tell whether the client wants reasoning to be classified, as it is by default."""
    setting = fields_of(parameter.get("predictionConfigStack")).get(f"{PREFIX}reasoning.parsing")
    return not (isinstance(setting, dict) and setting.get("enabled") is False)
