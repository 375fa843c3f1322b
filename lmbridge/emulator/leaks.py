"""Where reasoning ends up on each route: apart, in tags, or leaked (bug-tracker#1602, #2371)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmbridge.emulator.catalog import CatalogModel
    from lmbridge.emulator.events import Token
    from lmbridge.emulator.job import Summary
    from lmbridge.emulator.settings import Settings

END_MARKER = "__LM_STUDIO_INTERNAL_LSEP_SYNTHETIC_REASONING_END_f4e9a8d2c6b14d0c9e5f3a7b8c1d2e6a__"
START_MARKER = END_MARKER.replace("_END_", "_START_")
"""Nobody has seen it yet; who looks for one of them has to look for both."""


def reasoning_field(settings: Settings, model: CatalogModel) -> str | None:
    """Return the name of the field for reasoning on the compatible routes, None: it is inside the content."""
    mode = settings.separate_reasoning
    if mode == "auto":
        return "reasoning" if model.architecture == "gptoss" else "reasoning_content"
    if mode in ("inline", "leaked_inline"):
        return None
    return "reasoning_content" if mode == "leaked" else mode


def tags(settings: Settings) -> tuple[str, str]:
    """Return what stands before and after reasoning where it is not removed."""
    if settings.separate_reasoning.startswith("leaked"):
        return START_MARKER if settings.leaked_start_marker else "", END_MARKER
    return "<think>", "</think>"


def content_of(settings: Settings, summary: Summary) -> str:
    """Return the content of a whole answer."""
    mode, reasoning = settings.separate_reasoning, summary.reasoning
    if not reasoning or mode not in ("inline", "leaked", "leaked_inline"):
        return summary.text
    before, after = tags(settings)
    return f"{after}{summary.text}" if mode == "leaked" else f"{before}{reasoning}{after}{summary.text}"


def place(settings: Settings, model: CatalogModel, token: Token) -> tuple[str, str] | None:
    """Return the field (`content` or that for reasoning) and the text of a streamed token, None for none."""
    field = reasoning_field(settings, model)
    before, after = tags(settings)
    if token.kind == "message":
        return "content", token.text
    if token.kind == "reasoning":
        return field or "content", token.text
    if token.kind == "reasoning_start":
        return ("content", before) if field is None and before else None
    if token.kind == "reasoning_end":
        return ("content", after) if field is None or settings.separate_reasoning == "leaked" else None
    return None
