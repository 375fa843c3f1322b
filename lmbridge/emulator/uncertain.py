"""Answers whose form nobody has published: what the switches make of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmbridge.emulator.errors import EmulatedError
    from lmbridge.emulator.settings import Settings


def settled(error: EmulatedError, path: str, settings: Settings) -> EmulatedError:
    """Return an error with the status and the text that the switches choose for its route."""
    native = path.startswith("/api/v1/")
    chosen = copy.copy(error)
    if error.code == "invalid_json":
        chosen.status = settings.invalid_json_status
    elif error.code == "model_load_failed" and native:
        chosen.status = settings.load_failure_status
    elif error.code == "model_not_found" and error.param == "instance_id":
        chosen.status = settings.unknown_instance_status
        if settings.unknown_model_text == "plain":
            chosen.message = "Model instance not found."
    elif error.code == "model_not_found" and error.param == "model":
        chosen.status = settings.unknown_model_status or error.status
        if native and settings.unknown_model_text == "plain":
            chosen.message = "Model not found."
    return chosen


def unknown_route_answer(message: str, settings: Settings) -> tuple[Any, int]:
    """Return body and status of the answer to a route that does not exist."""
    if settings.unknown_route == "object":
        return {"error": {"message": message, "type": "invalid_request"}}, 200
    return {"error": message}, 404 if settings.unknown_route == "not_found" else 200
