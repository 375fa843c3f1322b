"""What goes wrong, as people read it: one plain sentence and what to do about it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from lmbridge.errors import LMBridgeError

__all__ = ["NodeError", "Problem", "last_problems", "remember", "sentence"]

_KEPT = 50


class NodeError(RuntimeError):
    """Fails a node; its text is what ComfyUI shows."""


class Problem(TypedDict):
    """An error that happened.

    Attributes:
        time: seconds since 1970.
        connection: name of the connection, or empty.
        message: what happened.
        hint: what to do about it, or empty.
    """

    time: float
    connection: str
    message: str
    hint: str


_lock = threading.Lock()
_problems: deque[Problem] = deque(maxlen=_KEPT)


def sentence(error: LMBridgeError) -> str:
    """Return the error as one sentence and, where there is one, a hint."""
    told = f"{error.connection}: {error.message}" if error.connection else _capital(error.message)
    return _stopped(told) + (f" {_stopped(_capital(error.hint))}" if error.hint else "")


def _stopped(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def remember(error: LMBridgeError) -> None:
    """Keep an error for the page's list of the last ones."""
    with _lock:
        _problems.append(
            Problem(
                time=time.time(),
                connection=error.connection or "",
                message=error.message,
                hint=error.hint,
            )
        )


def last_problems() -> list[Problem]:
    """Return the last errors, newest first."""
    with _lock:
        return list(reversed(_problems))
