"""What a call shows while it runs: at most ten updates a second, however fast the tokens come."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from lmbridge.events import Progress, ReasoningDelta, TextDelta, Usage

from . import _host

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmbridge.events import Event

    from .screens import Screen

__all__ = ["Bar", "Display"]

_INTERVAL = 0.1
#: ComfyUI's own text display gets the whole text each time, and lays it out again.
_TEXT_INTERVAL = 0.5
_TEXT_TAIL = 2000


class Bar(NamedTuple):
    """The state of a node's progress bar."""

    value: float
    maximum: float


class Display:
    """Collects the events of one call and sends them in small updates.

    Used on one event loop.

    Args:
        screen: where to.
        index: number of the call within the node.
        max_tokens: most tokens to come, if that is known.
        moved: called when the progress bar is to be moved.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        screen: Screen,
        index: int = 0,
        *,
        max_tokens: int | None = None,
        moved: Callable[[Bar], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._index = index
        self._max_tokens = max_tokens
        self._moved = moved
        self._clock = clock
        self._began = clock()
        self._first_token: float | None = None
        self._phase = "connecting"
        self._fraction: float | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tail = ""
        self._tokens = 0
        self._seq = 0
        self._sent = self._text_sent = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def begin(self) -> None:
        """Show that the call begins; the page clears the display."""
        self._flush()

    def take(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta(text=text):
                self._delta("answering", self._text, text)
                self._tail = (self._tail + text)[-_TEXT_TAIL:]
            case ReasoningDelta(text=text):
                self._delta("reasoning", self._reasoning, text)
            case Progress(phase=phase, fraction=fraction):
                self._phase, self._fraction = phase, fraction
            case Usage(completion_tokens=int(tokens)):
                self._tokens = tokens
            case _:
                return
        self._schedule()

    def end(self, phase: str, message: str | None = None) -> None:
        """Show how it ended: ``done``, ``failed`` or ``cancelled``. Later events are not shown."""
        if self._ended:
            return
        self._phase, self._fraction = phase, None
        self._text_sent = float("-inf")
        self._flush(message)
        self._ended = True

    def _delta(self, phase: str, pieces: list[str], text: str) -> None:
        if self._first_token is None:
            self._first_token = self._clock()
        self._phase, self._fraction = phase, None
        self._tokens += 1  # servers send a piece for each token; the true number comes at the end
        pieces.append(text)

    def _schedule(self) -> None:
        if self._timer is None and not self._ended:
            delay = max(0.0, self._sent + _INTERVAL - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._flush)

    def _flush(self, message: str | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ended:
            return
        now = self._sent = self._clock()
        self._move_bar()
        client = self._screen.client
        update = self._update(now, message)
        if client is None:
            return
        with suppress(RuntimeError):  # ComfyUI is shutting down, its loop is closed
            _host.send("lmbridge.update", update, client)
            if not self._screen.has_script and now - self._text_sent >= _TEXT_INTERVAL:
                self._text_sent = now
                _host.send_text(self._plain(message), self._screen.place.node, client)

    def _update(self, now: float, message: str | None) -> dict[str, object]:
        place = self._screen.place
        update: dict[str, object] = {
            "prompt_id": place.prompt_id,
            "node": place.node,
            "display_node": self._screen.display_node,
            "workflow_id": self._screen.workflow,
            "index": self._index,
            "seq": self._seq,
            "phase": self._phase,
            "fraction": self._fraction,
            "reasoning": "".join(self._reasoning),
            "text": "".join(self._text),
            "tokens": self._tokens or None,
            "tokens_per_second": self._speed(now),
            "elapsed": round(now - self._began, 2),
            "message": message,
        }
        self._seq += 1
        self._text.clear()
        self._reasoning.clear()
        return update

    def _speed(self, now: float) -> float | None:
        if self._first_token is None or self._tokens < 2 or now <= self._first_token:
            return None
        return round((self._tokens - 1) / (now - self._first_token), 1)

    def _plain(self, message: str | None) -> str:
        share = "" if self._fraction is None else f" {self._fraction:.0%}"
        return message or self._tail or f"{self._phase}{share}"

    def _move_bar(self) -> None:
        if self._fraction is not None:
            self._moved(Bar(self._fraction, 1.0))
        elif self._max_tokens and self._tokens:
            self._moved(Bar(float(min(self._tokens, self._max_tokens)), float(self._max_tokens)))
