"""What happens to a prompt on its way into ComfyUI's queue."""

from __future__ import annotations

from typing import Any

from .graphs import chat_nodes
from .handover import handover
from .replacing import rewrite
from .saved import saved_answers

__all__ = ["on_prompt"]


def on_prompt(data: dict[str, Any]) -> dict[str, Any]:
    """Look at the body of a ``POST /prompt``, and return it. It may hold anything."""
    graph = data.get("prompt")
    rewrite(graph)
    if not any(True for _ in chat_nodes(graph)):
        return data
    targets = data.get("partial_execution_targets")
    if isinstance(targets, list):
        handover.queued(graph, targets)
    metadata = _metadata(data, graph)
    if metadata is not None:
        saved_answers.queued(graph, metadata)
    return data


def _metadata(data: dict[str, Any], graph: Any) -> dict[str, Any] | None:
    """Return what ComfyUI will write into the prompt's pictures; ``None``: nobody wants ours in it."""
    if not any(inputs.get("save_answer") is True for _, inputs in chat_nodes(graph)):
        return None
    extra = data.setdefault("extra_data", {})
    metadata = extra.setdefault("extra_pnginfo", {}) if isinstance(extra, dict) else None
    return metadata if isinstance(metadata, dict) else None
