"""Leaving, in every way and phase; and what is left afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmbridge.events import TextDelta
from lmbridge.testing.bench import CONNECTION, Bench, collect
from lmbridge.testing.checks import check
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.faults import Fault
from lmbridge.testing.recorder import Pause
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lmbridge.bridge import Bridge
    from lmbridge.chat import Request

__all__ = ["Stopping"]


class ConsumerError(Exception):
    """What a reader of a stream raises."""


async def _by_break(bridge: Bridge, request: Request, seen: list[str]) -> None:
    async with bridge.stream(CONNECTION, request) as events:
        async for event in events:
            if _has_alpha(event, seen):
                break


async def _by_error(bridge: Bridge, request: Request, seen: list[str]) -> None:
    try:
        async with bridge.stream(CONNECTION, request) as events:
            async for event in events:
                _fail_at_alpha(event, seen)
    except ConsumerError:
        return


def _fail_at_alpha(event: object, seen: list[str]) -> None:
    if _has_alpha(event, seen):
        raise ConsumerError


def _has_alpha(event: object, seen: list[str]) -> bool:
    if isinstance(event, TextDelta):
        seen.append(event.text)
    return "alpha" in "".join(seen)


async def _by_cancel(work: Awaitable[object], bench: Bench) -> None:
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda _: bench.server.look())
    await bench.server.until(lambda: bench.server.hanging or task.done(), bench.kit.patience)
    check(not task.done(), "the call was over before the server had answered")
    task.cancel()
    await asyncio.wait({task}, timeout=bench.kit.patience)
    check(task.cancelled(), "whoever awaits a cancelled call must meet the CancelledError")


class Stopping(Base):
    """Whoever leaves is free, and the server learns of it at once."""

    @pytest.mark.parametrize("way", ["break", "error", "cancel", "cancelled generate"])
    def test_leaving_stops_the_server(self, bench: Bench, way: str) -> None:
        """In the middle of the answer: by ``break``, by an error of the reader, by cancelling its task."""
        self._left(bench, way, Fault.hang(at=self.after("bravo"), route=self.answer_route))

    @pytest.mark.parametrize("way", ["cancel", "cancelled generate"])
    def test_leaving_before_the_answer_stops_the_server(self, bench: Bench, way: str) -> None:
        """While the server loads or reads the prompt."""
        self._left(bench, way, Fault.hang(at="request", route=self.answer_route))

    def _left(self, bench: Bench, way: str, fault: Fault) -> None:
        request = bench.expect(TALK)
        seen: list[str] = []
        ways: dict[str, Callable[[Bridge], Awaitable[None]]] = {
            "break": lambda bridge: _by_break(bridge, request, seen),
            "error": lambda bridge: _by_error(bridge, request, seen),
            "cancel": lambda bridge: _by_cancel(collect(bridge, request), bench),
            "cancelled generate": lambda bridge: _by_cancel(bridge.generate(CONNECTION, request), bench),
        }

        async def work(bridge: Bridge) -> None:
            await bench.warm_up(bridge)
            bench.server.fail(fault)
            await ways[way](bridge)
            try:
                await self.stopped(bench)
            except TimeoutError as exc:
                raise AssertionError(
                    f"the reader left (by {way}), and the server was not told: close the connection, or send "
                    f"the cancel message, in a finally; {exc}"
                ) from exc

        bench.run(work)

    @pytest.mark.parametrize("end", ["whole", "break", "close", "cancel", "failure"])
    def test_nothing_is_left_behind(self, bench: Bench, end: str) -> None:
        """No task, generator, thread, socket, warning or changed variable, however the call ended."""
        request = bench.expect(TALK)
        # A reader that leaves usually finds the provider waiting for more; this finds it at its ``yield``.
        pause = Pause(after="alpha") if end == "close" else None

        async def work(bridge: Bridge) -> None:
            await bench.warm_up(bridge)
            match end:
                case "whole":
                    await collect(bridge, request)
                case "break":
                    await _by_break(bridge, request, [])
                case "close" if pause is not None:
                    pause.armed = True
                    await _by_break(bridge, request, [])
                case "cancel":
                    bench.server.fail(Fault.hang(at=self.after("bravo"), route=self.answer_route))
                    await _by_cancel(collect(bridge, request), bench)
                case _:
                    bench.server.fail(Fault.drop(at=self.after("bravo"), route=self.answer_route))
                    await asyncio.gather(collect(bridge, request), return_exceptions=True)

        bench.run(work, bridge=bench.bridge(middleware=pause), watched=True)
        left = bench.remains.sentences()
        try:
            bench.server.wait_for(lambda: bench.server.open == 0, self.patience)
        except TimeoutError:
            left.append(f"{bench.server.open} connections to the server are still open")
        check(not left, f"after a call that ended by {end}, " + "; ".join(left))

    def test_the_next_call_works_after_a_cancelled_one(self, bench: Bench) -> None:
        """Nothing of the old answer appears in the new one."""
        request = bench.expect(TALK)

        async def work(bridge: Bridge) -> str:
            await bench.warm_up(bridge)
            bench.server.fail(Fault.hang(at=self.after("bravo"), route=self.answer_route))
            await _by_cancel(collect(bridge, request), bench)
            bench.server.release()
            return (await bridge.generate(CONNECTION, bench.expect(TALK))).text

        text = bench.run(work)
        check(text == "".join(TALK.text), f"after a cancelled call the next one answers {text!r}")
