"""What the emulator was asked, in order, and what became of it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

logger = logging.getLogger(__name__)

T = TypeVar("T")
State = Literal["open", "finished", "cancelled", "failed"]

MAX_FRAMES = 2000

SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})


def masked(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case name, the secrets reduced to their scheme and length."""
    result = {}
    for name, value in headers:
        lower = name.lower()
        if lower in SECRET_HEADERS:
            scheme, _, secret = value.rpartition(" ")
            value = f"{scheme} ***({len(secret)})".strip()  # noqa: PLW2901 - the masked form replaces it
        result[lower] = value
    return result


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One HTTP request, one websocket, or one call or channel on a websocket.

    Attributes:
        number: position among all records, from 1.
        route: `POST /v1/chat/completions`, `WS /llm`, `RPC /llm countTokens` or `CHANNEL /llm predict`.
        headers: by lower-case name, secrets masked.
        authenticated: whether a valid API token came with it.
        body: the decoded JSON body, the RPC's parameter or the channel's creation parameter.
        size: bytes of the body or of the creating frame.
        frames: on a websocket, every frame received; on a channel, every message the client sent to it.
        state: `open`, `finished`, `cancelled` (work was stopped) or `failed` (an error was answered).
        reason: why it was cancelled or failed.
        disconnected: the client went away before the end.
        status: HTTP status that was sent, None before.
        phase: where the work is: `received`, `loading`, `queued`, `prompt`, `reasoning`, `answering`, `tool`.
        history: (global sequence number, phase or state), which orders the steps of parallel requests.
        model: model key that served it.
        tokens: tokens generated so far.
        prompt_tokens: tokens of the prompt.
        stop_reason: as the SDK names it.
        text: the answer generated so far.
        warnings: what a real server would have written to its log.
    """

    number: int
    route: str
    headers: dict[str, str] = field(default_factory=dict)
    authenticated: bool = False
    body: Any = None
    size: int = 0
    frames: list[Any] = field(default_factory=list)
    state: State = "open"
    reason: str = ""
    disconnected: bool = False
    status: int | None = None
    phase: str = "received"
    history: list[tuple[int, str]] = field(default_factory=list)
    model: str | None = None
    tokens: int = 0
    prompt_tokens: int = 0
    stop_reason: str | None = None
    text: str = ""
    warnings: list[str] = field(default_factory=list)
    on_change: Callable[[RequestRecord, str], None] = field(default=lambda _record, _what: None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether it was answered in full."""
        return self.state == "finished"

    @property
    def cancelled(self) -> bool:
        """Whether its work was stopped before the end."""
        return self.state == "cancelled"

    @property
    def failed(self) -> bool:
        """Whether it was answered with an error."""
        return self.state == "failed"

    @property
    def phases(self) -> list[str]:
        """The phases and the final state in their order."""
        return [name for _, name in self.history]

    def enter(self, phase: str) -> None:
        """Note that the work has come to a phase."""
        self.phase = phase
        self.on_change(self, phase)

    def end(self, state: State, reason: str = "") -> None:
        """Note the end; only the first one counts."""
        if self.state == "open":
            self.state, self.reason = state, reason
            self.on_change(self, state)

    def note(self) -> None:
        """Wake those who wait for a change of the counters."""
        self.on_change(self, "")

    def received(self, frame: Any) -> None:
        """Note a frame from the client; of a long-lived socket only the newest are kept."""
        if len(self.frames) >= MAX_FRAMES:
            del self.frames[: MAX_FRAMES // 2]
        self.frames.append(frame)
        self.on_change(self, "")


Watcher: TypeAlias = "Callable[[RequestRecord | None, str], None]"
"""Takes the record that has changed (None: something else has) and the phase or state it came to, or ""."""


class Journal:
    """All records, the oldest forgotten when there are too many.

    Args:
        limit: how many records are kept.
        limit_bytes: how many bytes of bodies are kept.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.records: deque[RequestRecord] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._numbers = itertools.count(1)
        self._sequence = itertools.count(1)
        self._watchers: dict[object, Watcher] = {}

    def limit(self, limit: int, limit_bytes: int) -> None:
        """Change the limits."""
        self._limit, self._limit_bytes = limit, limit_bytes
        self.grown(0)

    def open(
        self, route: str, headers: Mapping[str, str] | None = None, body: Any = None, size: int = 0
    ) -> RequestRecord:
        """Begin a record."""
        record = RequestRecord(next(self._numbers), route, dict(headers or {}), body=body, size=size)
        record.on_change = self._on_change
        self.records.append(record)
        self.grown(size)
        record.enter("received")
        return record

    def grown(self, size: int) -> None:
        """Count bytes that a record holds, and forget the oldest records beyond the limits."""
        self._bytes += size
        while len(self.records) > self._limit or (self._bytes > self._limit_bytes and len(self.records) > 1):
            self._bytes -= self.records.popleft().size

    def clear(self) -> None:
        """Forget everything so far."""
        self.records.clear()
        self._bytes = 0

    # Watching

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call the watcher at every change from now on; what is returned ends that.

        The watcher runs within the work that it watches: it has to be quick, and must not wait.
        """
        key = object()
        self._watchers[key] = watcher

        def end() -> None:
            self._watchers.pop(key, None)

        return end

    def pulse(self) -> None:
        """Tell the watchers that something outside the records has changed."""
        self._tell(None, "")

    def _on_change(self, record: RequestRecord, what: str) -> None:
        if what:
            record.history.append((next(self._sequence), what))
        self._tell(record, what)

    def _tell(self, record: RequestRecord | None, what: str) -> None:
        for watcher in tuple(self._watchers.values()):
            try:
                watcher(record, what)
            except Exception:  # a watcher must not break what it watches
                logger.exception("a watcher of the emulator's requests failed")

    async def wait_for(self, predicate: Callable[[], T], seconds: float) -> T:
        """Wait until the predicate is true, and return its value.

        It is asked now and within every change, so that no passing state is missed.

        Raises:
            TimeoutError: it did not become true; the message lists the last records.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def ask(_record: RequestRecord | None = None, _what: str = "") -> None:
            if answer.done():
                return
            try:
                value = predicate()
            except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
                answer.set_exception(error)
                return
            if value and not answer.done():  # a predicate may itself cause a change
                answer.set_result(value)

        end = self.watch(ask)
        try:
            ask()
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            if answer.done() and not answer.cancelled():
                raise  # the predicate's own
            message = f"nothing of that kind within {seconds:g} s; the last requests: {self}"
            raise TimeoutError(message) from None
        finally:
            end()

    def __str__(self) -> str:
        tail = list(self.records)[-10:]
        return (
            "; ".join(f"#{r.number} {r.route} {r.state} in {r.phase}, {r.tokens} tokens" for r in tail)
            or "none"
        )
