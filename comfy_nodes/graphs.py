"""What can be read from a queued prompt: its graph of nodes, in the form of ComfyUI's API."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CHAT_NODE", "chat_nodes", "inputs_of", "link_of", "signature"]

CHAT_NODE: Final = "LMBridge_Chat"


def inputs_of(graph: Any, node: str) -> Mapping[str, Any]:
    """Return a node's inputs, as far as the graph has the form it should have."""
    found = graph.get(node) if isinstance(graph, dict) else None
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def link_of(value: Any) -> tuple[str, int] | None:
    """Return the node and output that an input comes from; ``None``: it is a value."""
    if (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    ):
        return value[0], value[1]
    return None


def chat_nodes(graph: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield our chat nodes with their inputs."""
    if isinstance(graph, dict):
        for name, node in graph.items():
            if isinstance(node, dict) and node.get("class_type") == CHAT_NODE:
                yield str(name), inputs_of(graph, name)


def signature(graph: Any, node: str) -> str | None:
    """Return a digest of the node with everything that it depends on; ``None``: it cannot be told.

    Two prompts in which it is the same give the node the same inputs.
    """
    try:
        return _digest(graph, node, {}, set())
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _digest(graph: Any, node: str, known: dict[str, str], path: set[str]) -> str:
    if node in known:
        return known[node]
    if node in path:
        raise ValueError("the graph has a cycle")
    path.add(node)
    inputs: dict[str, Any] = {}
    for name, value in graph[node]["inputs"].items():
        link = link_of(value)
        inputs[name] = _plain(value) if link is None else [_digest(graph, link[0], known, path), link[1]]
    path.discard(node)
    told = json.dumps([graph[node]["class_type"], inputs], sort_keys=True)
    known[node] = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
    return known[node]


def _plain(value: Any) -> Any:
    """Return ``value`` with whole numbers in one form: ComfyUI turns 1 into 1.0 where a node wants it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
