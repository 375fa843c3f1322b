"""Models as pages and nodes show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmbridge.catalog import Model

__all__ = ["as_line", "as_row"]


def _known(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def as_row(model: Model) -> dict[str, Any]:
    """Return the model as JSON."""
    able = model.capabilities
    copies = model.loaded or ()
    return {
        "id": model.id,
        "name": model.display_name or model.id,
        "kind": model.kind,
        "loaded": None if model.loaded is None else bool(copies),
        "vision": _known(able.images),
        "reasoning": _known(able.reasoning),
        "reasoning_levels": None if able.reasoning_levels is None else list(able.reasoning_levels),
        "tools": _known(able.tools),
        "context_length": next((copy.context_length for copy in copies if copy.context_length), None),
        "max_context_length": model.max_context_length,
        "size_bytes": model.size_bytes,
        "quantization": model.quantization,
        "instances": [{"id": copy.id, "context_length": copy.context_length} for copy in copies],
    }


def as_line(model: Model) -> str:
    """Return the model as one line of text."""
    able = model.capabilities
    context = next((copy.context_length for copy in model.loaded or () if copy.context_length), None)
    facts = [
        "loaded" if model.loaded else "",
        f"{context} tokens" if context else "",
        "vision" if able.images else "",
        "reasoning" if able.reasoning else "",
        "" if model.kind == "llm" else model.kind,
    ]
    told = ", ".join(filter(None, facts))
    return f"{model.id}: {told}" if told else model.id
