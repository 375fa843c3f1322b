"""The four clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmbridge.chat import Timeouts
from lmbridge.errors import LMBridgeError, TimedOut
from lmbridge.testing.bench import CONNECTION, Bench, collect
from lmbridge.testing.checks import check
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.faults import Fault, Place
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from lmbridge.bridge import Bridge
    from lmbridge.chat import Request

__all__ = ["Deadlines"]

#: Seconds of the clock under test: it may pass late, and nothing else ends the wait.
_SHORT = 0.2


async def _ended(bridge: Bridge, request: Request) -> LMBridgeError | None:
    try:
        await collect(bridge, request)
    except LMBridgeError as error:
        return error
    return None


class Deadlines(Base):
    """A silent server costs as long as the clocks say, and learns that it was given up."""

    @pytest.mark.parametrize("clock", ["first_event", "idle", "total"])
    def test_a_clock_ends_the_call(self, bench: Bench, clock: str) -> None:
        """Silence before and in the answer; afterwards the server knows."""
        if clock == "idle" and not hasattr(self.provider, "stream"):
            pytest.skip("the provider answers as a whole: no part of it comes before a silence")
        at: Place = self.after("bravo") if clock == "idle" else "request"
        self._clocked(bench, clock, Fault.hang(at=at, route=self.answer_route))

    def test_comments_do_not_hold_off_the_first_event(self, bench: Bench) -> None:
        """A server that only says that it is still there never answers."""
        if self.comment is None:
            pytest.skip("the class of the tests names no comment that the server may send")
        self._clocked(bench, "first_event", Fault.flood(self.comment, at="head", route=self.answer_route))

    def _clocked(self, bench: Bench, clock: str, fault: Fault) -> None:
        request = bench.expect(TALK).replace(timeouts=Timeouts(**{clock: _SHORT}))

        async def work(bridge: Bridge) -> None:
            await bench.warm_up(bridge)
            bench.server.fail(fault)
            error = await _ended(bridge, request)
            self._timed_out(error, clock)
            try:
                await self.stopped(bench)
            except TimeoutError as exc:
                raise AssertionError(
                    f"the {clock} clock ran out, the call was cancelled, and the server was not told: {exc}"
                ) from exc

        bench.run(work)

    def test_the_connect_clock_ends_the_call(self, bench: Bench) -> None:
        """Nobody accepts the connection; ``context.timeouts.connect`` is the provider's own duty."""
        request = bench.expect(TALK)
        request = request.replace(timeouts=Timeouts(connect=_SHORT, total=self.patience / 2))
        bridge = bench.bridge()  # it keeps its catalogue, but no connection from one loop to the next
        bench.run(lambda opened: opened.list_models(CONNECTION), bridge=bridge)

        async def work(bridge: Bridge) -> LMBridgeError | None:
            if not await bench.server.stall():
                pytest.skip("this system accepts connections by itself")
            return await _ended(bridge, request)

        expected = self.expected.get("connect")
        if isinstance(expected, str):
            pytest.skip(expected)
        self._timed_out(bench.run(work, bridge=bridge), "connect")

    def test_a_silent_list_is_given_up(self, bench: Bench) -> None:
        """``list_models`` ends with the time that the caller gives."""
        bench.expect(TALK)
        bench.server.fail(Fault.hang(at="request"))

        async def work(bridge: Bridge) -> LMBridgeError | None:
            return (await bridge.list_models(CONNECTION, timeout=_SHORT)).errors.get(CONNECTION)

        error = bench.run(work)
        check(isinstance(error, TimedOut), f"a list that never comes must end in TimedOut, not {error!r}")

    def _timed_out(self, error: LMBridgeError | None, clock: str) -> None:
        check(isinstance(error, TimedOut), f"the {clock} clock ran out: it must be TimedOut, not {error!r}")
        if isinstance(error, TimedOut):
            check(error.clock == clock, f"it was the {clock} clock, the error says {error.clock!r}: {error}")
