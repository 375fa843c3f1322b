"""What goes wrong becomes the right error, with a hint and without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lmbridge.errors import (
    AuthenticationFailed,
    LMBridgeError,
    ModelNotFound,
    PluginError,
    ProtocolError,
    RateLimited,
    ServerError,
    ServerUnreachable,
)
from lmbridge.events import TextDelta
from lmbridge.testing.bench import CONNECTION, Bench, collect
from lmbridge.testing.checks import Overheard, check, listening
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.faults import Fault
from lmbridge.testing.recorder import Recorder
from lmbridge.testing.replies import Reply
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lmbridge.bridge import Bridge
    from lmbridge.chat import Request

__all__ = ["FAULTS", "Failing"]


@dataclass(frozen=True, slots=True)
class Case:
    """One fault, and what the provider must make of it.

    Attributes:
        make: has it happen; gets the bench.
        classes: any of these is right.
        delivered: the server has begun to answer, so the reader has got the beginning.
        http: it exists only where answers come by plain HTTP.
    """

    make: Callable[[Bench], Fault | Reply]
    classes: tuple[type[LMBridgeError], ...]
    delivered: bool = False
    http: bool = False


def _reply(reply: Callable[[Bench], Reply]) -> Callable[[Bench], Reply]:
    return reply


def _error(status: int, message: str, **headers: str) -> Callable[[Bench], Reply]:
    def make(bench: Bench) -> Reply:
        # Servers do repeat the key that they refuse; it must not reach the reader.
        text = f"{message} ({bench.kit.api_key})"
        body = {"error": {"message": text, "type": "error", "code": None}}
        return Reply.json(
            body, status=status, headers={key.replace("_", "-"): v for key, v in headers.items()}
        )

    return make


def _after_bravo(action: Callable[..., Fault], **more: object) -> Callable[[Bench], Fault]:
    return lambda bench: action(at=bench.kit.after("bravo"), route=bench.kit.answer_route, **more)


_BROKEN_OFF = (ProtocolError, ServerUnreachable)
FAULTS: Mapping[str, Case] = {
    "dropped before the answer": Case(
        lambda bench: Fault.drop(at="request", route=bench.kit.answer_route), (ServerUnreachable,)
    ),
    "dropped in the answer": Case(_after_bravo(Fault.drop), _BROKEN_OFF, delivered=True),
    "reset in the answer": Case(_after_bravo(Fault.drop, reset=True), _BROKEN_OFF),
    "garbage in the answer": Case(
        lambda bench: Fault.garbage(
            bench.kit.garbage, at=bench.kit.after("bravo"), route=bench.kit.answer_route
        ),
        (ProtocolError, ServerError),
    ),
    "no HTTP": Case(
        lambda _: Reply.raw(b"\x00\x01 ready\r\n\r\n"), (ServerUnreachable, ProtocolError), http=True
    ),
    "a web page": Case(
        lambda _: Reply.text("<!doctype html><title>Router</title>"), (ProtocolError, ServerError), http=True
    ),
    "wrong key": Case(_error(401, "Incorrect API key"), (AuthenticationFailed,), http=True),
    "too many requests": Case(_error(429, "Slow down", Retry_After="60"), (RateLimited,), http=True),
    "failed": Case(_error(500, "Out of order"), (ServerError,), http=True),
}


async def _failure(bridge: Bridge, request: Request, text: list[str] | None = None) -> LMBridgeError | None:
    try:
        async with bridge.stream(CONNECTION, request) as events:
            async for event in events:
                if text is not None and isinstance(event, TextDelta):
                    text.append(event.text)
    except LMBridgeError as error:
        return error
    return None


class Failing(Base):
    """Each fault ends in an error of lmbridge that says what happened, where, and what to do."""

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_becomes_the_right_error(self, bench: Bench, fault: str) -> None:
        """See :data:`FAULTS`; ``expected`` changes what is right."""
        case, classes = FAULTS[fault], self._classes(fault, FAULTS[fault].classes)
        if case.http and self.websocket:
            pytest.skip("answers come over a WebSocket, so this cannot happen to them")
        request = bench.expect(TALK)
        text: list[str] = []

        async def work(bridge: Bridge) -> LMBridgeError | None:
            await bench.warm_up(bridge)
            wrong = case.make(bench)
            if isinstance(wrong, Fault):
                bench.server.fail(wrong)
            else:
                bench.server.on(self.answer_route, wrong)
            return await _failure(bridge, request, text)

        with listening() as heard:
            error = bench.run(work)
        self._examine(error, classes, heard, f"when the server is {fault!r}" if not case.http else fault)
        if case.delivered:
            check(
                "alpha" in "".join(text), "what came before the error was not delivered; it was 'alpha bravo'"
            )
        if fault == "too many requests" and error is not None:
            check(error.retry_after == 60, f"Retry-After was 60, error.retry_after is {error.retry_after}")

    def test_a_refused_connection_is_told(self, bench: Bench) -> None:
        """Nobody listens there: ``ServerUnreachable``, with the address."""
        request = bench.expect(TALK)

        async def work(bridge: Bridge) -> LMBridgeError | None:
            await bench.server.refuse()
            return await _failure(bridge, request)

        with listening() as heard:
            error = bench.run(work)
        self._examine(error, self._classes("refused", (ServerUnreachable,)), heard, "refused connection")
        check(bench.server.address in str(error), f"the error does not say which address: {error}")

    def test_a_missing_model_is_told(self, bench: Bench) -> None:
        """``ModelNotFound``, with the model's name."""
        request = bench.expect(TALK).replace(model="no-such-model")
        if self.not_found is not None:
            bench.server.on(self.answer_route, self.not_found)
        elif not bench.server.has_upstream:
            pytest.skip("the class of the tests does not say how the server answers: set not_found")
        with listening() as heard:
            error = bench.run(lambda bridge: _failure(bridge, request))
        self._examine(error, self._classes("missing model", (ModelNotFound,)), heard, "missing model")
        check("no-such-model" in str(error), f"the error does not name the model: {error}")

    def test_an_answer_without_its_end_is_an_error(self, bench: Bench) -> None:
        """The body ends as if it were whole, but the server never said that it is done."""
        if self.websocket:
            pytest.skip("over a WebSocket this is a dropped connection, which has a test of its own")
        recorder = Recorder()
        request = bench.expect(TALK)

        async def work(bridge: Bridge) -> LMBridgeError | None:
            await bench.warm_up(bridge)
            bench.server.fail(Fault.end(at=self.after("delta"), route=self.answer_route))
            return await _failure(bridge, request)

        with listening() as heard:
            error = bench.run(work, bridge=bench.bridge(middleware=recorder))
        classes = self._classes("no end mark", (ProtocolError,))
        self._examine(error, classes, heard, "an answer without its end mark")
        check(
            not (recorder.ended and recorder.events),
            "the iterator just ended; raise ProtocolError, which can say what is missing",
        )

    def test_the_key_appears_nowhere(self, bench: Bench) -> None:
        """Neither in the log at any level nor in what a good answer brings."""
        request = bench.expect(TALK)
        with listening() as heard:
            events = bench.run(lambda bridge: collect(bridge, request))
        places = heard.places(self.api_key)
        if self.api_key in repr(events):
            places.append("an event")
        check(not places, f"the key can be read in {', '.join(places)}")

    def _classes(self, fault: str, usual: tuple[type[LMBridgeError], ...]) -> tuple[type[LMBridgeError], ...]:
        expected = self.expected.get(fault, usual)
        if isinstance(expected, str):
            pytest.skip(expected)
        return expected

    def _examine(
        self,
        error: LMBridgeError | None,
        classes: tuple[type[LMBridgeError], ...],
        heard: Overheard,
        what: str,
    ) -> None:
        names = " or ".join(item.__name__ for item in classes)
        check(error is not None, f"{what}: the call ended well; it must be {names}")
        if error is None:
            return
        places = heard.places(self.api_key, error)
        check(not places, f"{what}: the key can be read in {', '.join(places)}")
        check(
            not isinstance(error, PluginError) or PluginError in classes,
            f"{what}: something that is no error of lmbridge came out of the provider: {error!r}",
        )
        check(isinstance(error, classes), f"{what}: it must be {names}, not {error!r}")
        check(error.hint.strip(), f"{what}: the error has no hint that says what to do: {error!r}")
        where = (error.connection, error.provider)
        wanted = (CONNECTION, self.name or "provider")
        check(where == wanted, f"{what}: the error says {where} for connection and provider, not {wanted}")
