"""Our chat node in the place of two older packs' nodes.

ComfyUI has an interface for this, and offers the replacement in the page. Its rewriting of a queued prompt
(``POST /prompt``), however, fails with an error 500 on any input that the mapping names and the prompt
lacks (ComfyUI 0.33.0, ``app/node_replace_manager.py``), so queued prompts are rewritten here, before it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from . import _host, choices
from .graphs import CHAT_NODE, link_of
from .service import service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["OLD_NODES", "OldNode", "register", "rewrite"]

_log = logging.getLogger(__name__)

_LARGEST_SEED = 2**53 - 1
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_LM_STUDIO = "http://127.0.0.1:1234"

_TEXT, _REASONING, _STATS = 0, 1, 3


class OldNode(NamedTuple):
    """Another pack's node.

    Attributes:
        id: its id.
        widgets: its widgets, in the order in which workflows save their values.
        inputs: our inputs and those of the node that they come from.
        outputs: for each of its outputs the number of ours.
        mode: its input that chooses the interface, and what each choice is here.
        address: its input with the server's address.
        no_model: texts of its model input that name no model.
        lost: inputs that have no place here.
    """

    id: str
    widgets: tuple[str, ...]
    inputs: Mapping[str, str]
    outputs: Sequence[int]
    mode: tuple[str, Mapping[str, str]] | None
    address: str
    no_model: frozenset[str]
    lost: tuple[str, ...]


_SAME: Final = {
    name: name for name in ("prompt", "system_prompt", "seed", "temperature", "max_tokens", "image")
}

OLD_NODES: Final = (
    OldNode(
        id="LMStudio_Unified_Chat",
        widgets=(
            "system_prompt",
            "prompt",
            "model_id",
            "connection_mode",
            "json_schema",
            "seed",
            "control_after_generate",
            "temperature",
            "max_tokens",
            "stream_output",
            "debug_mode",
        ),
        inputs={**_SAME, "model": "model_id", "connection": "connection_mode"},
        outputs=(_TEXT, _REASONING, _STATS),
        mode=("connection_mode", {"SDK": "lmstudio-sdk", "REST API": "lmstudio-rest"}),
        address="connection_mode.server_url",
        no_model=frozenset({"Loading models from LM Studio...", "LM Studio offline"}),
        lost=("json_schema",),
    ),
    OldNode(
        id="XDEV_LMStudioChat",
        widgets=(
            "prompt",
            "server_url",
            "model",
            "preset",
            "system_prompt",
            "message_history",
            "temperature",
            "max_tokens",
            "top_p",
            "stream",
            "auto_detect_server",
            "timeout",
            "validate_input",
        ),
        inputs={
            "prompt": "prompt",
            "system_prompt": "system_prompt",
            "temperature": "temperature",
            "max_tokens": "max_tokens",
            "model": "model",
            "preset": "preset",
            "connection": "server_url",
        },
        outputs=(_TEXT, _TEXT, _STATS, _STATS),
        mode=None,
        address="server_url",
        no_model=frozenset({"local-model"}),
        lost=("message_history", "top_p"),
    ),
)
_BY_ID = {old.id: old for old in OLD_NODES}


async def register() -> None:
    """Offer our node in the place of each."""
    for old in OLD_NODES:
        inputs: list[dict[str, Any]] = [
            {"new_id": ours, "old_id": theirs} for ours, theirs in old.inputs.items()
        ]
        if "preset" not in old.inputs:
            inputs.append({"new_id": "preset", "set_value": choices.NO_PRESET})
        await _host.register_replacement(
            old.id, CHAT_NODE, widgets=list(old.widgets), inputs=inputs, outputs=list(enumerate(old.outputs))
        )


def rewrite(graph: Any) -> None:
    """Replace the old nodes of a queued prompt, in place. An installed pack keeps its own nodes."""
    if not isinstance(graph, dict):
        return
    for name, node in list(graph.items()):
        old = _BY_ID.get(str(node.get("class_type"))) if isinstance(node, dict) else None
        if old is None or not isinstance(node.get("inputs"), dict) or _host.has_node(old.id):
            continue
        graph[name] = {**node, "class_type": CHAT_NODE, "inputs": _inputs(old, node["inputs"])}
        _move_links(graph, name, old)
        _tell_lost(old, node["inputs"])


def _inputs(old: OldNode, theirs: Mapping[str, Any]) -> dict[str, Any]:
    ours = {new: theirs[name] for new, name in old.inputs.items() if name in theirs}
    ours["connection"] = _connection(old, theirs)
    model = ours.get("model", "")
    if not isinstance(model, list) and str(model).strip() in {"", *old.no_model}:
        ours["model"] = choices.AUTOMATIC
    if ours.get("preset", "custom") == "custom":
        ours["preset"] = choices.NO_PRESET
    if isinstance(ours.get("seed"), int):
        ours["seed"] &= _LARGEST_SEED
    ours.setdefault("prompt", "")
    return ours


def _connection(old: OldNode, theirs: Mapping[str, Any]) -> Any:
    """Return the connection that leads where the old node went."""
    usual = "lmstudio-rest"
    if old.mode is not None:
        mode = theirs.get(old.mode[0])
        if isinstance(mode, list):
            return mode  # it comes from another node
        usual = old.mode[1].get(str(mode), usual)
    address = theirs.get(old.address)
    if not isinstance(address, str) or not address.strip():
        return usual
    wanted = _place(address)
    places = {
        name: _place(known or (_LM_STUDIO if provider.startswith("lmstudio") else ""))
        for name, (provider, known) in service.addresses().items()
    }
    if places.get(usual) == wanted:
        return usual
    found = next((name for name, place in places.items() if place == wanted and wanted[0]), None)
    if found is None:
        _log.warning("no connection leads to %s:%s; %r is used in its place", *wanted, usual)
    return found or usual


def _place(address: str) -> tuple[str, int | None]:
    text = address.strip() if "//" in address else f"//{address.strip()}"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "", None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return "localhost" if host in _THIS_MACHINE else host, port or usual


def _move_links(graph: Mapping[str, Any], name: str, old: OldNode) -> None:
    for node in graph.values():
        found = node.get("inputs") if isinstance(node, dict) else None
        inputs: dict[str, Any] = found if isinstance(found, dict) else {}
        for key, value in inputs.items():
            link = link_of(value)
            if link is not None and link[0] == name and 0 <= link[1] < len(old.outputs):
                inputs[key] = [name, old.outputs[link[1]]]


def _tell_lost(old: OldNode, theirs: Mapping[str, Any]) -> None:
    lost = [name for name in old.lost if str(theirs.get(name) or "").strip()]
    if lost:
        _log.warning("LM Bridge Chat stands in for %s, but has no %s", old.id, " and no ".join(lost))
