"""The texts of the fixed dropdowns. They are saved in workflows, so they never change."""

from __future__ import annotations

from typing import Final

__all__ = [
    "AFTER_RUN",
    "ALL_IMAGES",
    "ALWAYS_NEW",
    "AUTOMATIC",
    "BEFORE_RUN",
    "FAIL",
    "FALLBACK",
    "FREE_FIRST",
    "IMAGE_MODES",
    "KEEP_ANSWER",
    "KEEP_MODEL",
    "LEAVE",
    "NO_PRESET",
    "ON_ERROR",
    "PER_IMAGE",
    "REASONING",
    "RERUN",
    "REUSE",
    "TYPE_A_NAME",
    "UNLOAD",
    "UNLOAD_OURS",
    "UNSET_REASONING",
]

#: The connection's own model, else the one that is loaded.
AUTOMATIC: Final = "automatic"
#: An entry of the page's menu that opens a dialog; it is no model.
TYPE_A_NAME: Final = "Type a name…"

NO_PRESET: Final = "none"

UNSET_REASONING: Final = "default"
REASONING: Final = (UNSET_REASONING, "off", "on", "minimal", "low", "medium", "high", "xhigh")

ALL_IMAGES: Final = "one call with all images"
PER_IMAGE: Final = "one call per image"
IMAGE_MODES: Final = (ALL_IMAGES, PER_IMAGE)

FAIL: Final = "fail"
FALLBACK: Final = "use fallback text"
ON_ERROR: Final = (FAIL, FALLBACK)

REUSE: Final = "reuse until inputs change"
ALWAYS_NEW: Final = "always new"
KEEP_ANSWER: Final = "keep this answer"
RERUN: Final = (REUSE, ALWAYS_NEW, KEEP_ANSWER)

LEAVE: Final = "leave"
FREE_FIRST: Final = "free ComfyUI's memory first"
BEFORE_RUN: Final = (LEAVE, FREE_FIRST)

KEEP_MODEL: Final = "keep model"
UNLOAD_OURS: Final = "unload if we loaded it"
UNLOAD: Final = "unload"
AFTER_RUN: Final = (KEEP_MODEL, UNLOAD_OURS, UNLOAD)
