"""What comes back."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from lmbridge.events import (
    Event,
    Finish,
    Progress,
    ReasoningDelta,
    Result,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from lmbridge.testing.bench import CONNECTION, Bench, collect, folded
from lmbridge.testing.checks import check
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.faults import Fault
from lmbridge.testing.recorder import Recorder
from lmbridge.testing.turns import TALK, THOUGHT, USE, Turn

if TYPE_CHECKING:
    from lmbridge.bridge import Bridge
    from lmbridge.testing.server import FaultServer

__all__ = ["Answers"]

#: Where a block surely ends: inside of a letter of two bytes, and twice inside of one of four.
_CUTS = (b"\xc3", b"\xf0", b"\x9f\x8e")
_TURNS = 20
_EVENTS = (Progress, ReasoningDelta, TextDelta, ToolCallDelta, ToolResult, Usage, Finish)


def _stream(bench: Bench, turn: Turn) -> list[Event]:
    request = bench.expect(turn)
    return bench.run(lambda bridge: collect(bridge, request))


def _went_on(server: FaultServer, call: asyncio.Future[Result], hung: int) -> bool:
    return server.hung > hung or call.done()


def _same(one: Result, other: Result) -> list[str]:
    """Return the fields in which two results differ that may not."""
    names = ["text", "reasoning", "finish_reason", "usage"]
    differing = [name for name in names if getattr(one, name) != getattr(other, name)]
    calls = [
        [(call.name, call.arguments, call.server_executed) for call in result.tool_calls]
        for result in (one, other)
    ]
    return differing + (["tool_calls"] if calls[0] != calls[1] else [])


class Answers(Base):
    """Text, thinking, tool calls and usage arrive whole, apart, in order, and the same both ways."""

    def test_text_arrives_whole(self, bench: Bench) -> None:
        """All pieces, in order, nothing added."""
        text = folded(_stream(bench, TALK)).text
        check(text == "".join(TALK.text), f"the server said {''.join(TALK.text)!r}, the provider {text!r}")

    def test_text_arrives_before_the_answer_ends(self, bench: Bench) -> None:
        """A piece is passed on while the server still works on the next."""
        if not hasattr(self.provider, "stream"):
            pytest.skip("the provider answers as a whole: it has no 'stream'")
        request = bench.expect(TALK)
        seen: list[str] = []

        async def work(bridge: Bridge) -> None:
            await bench.warm_up(bridge)
            bench.server.fail(Fault.hang(at=self.after("bravo"), route=self.answer_route))
            async with bridge.stream(CONNECTION, request) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        seen.append(event.text)
                    if "alpha" in "".join(seen):
                        return

        try:
            bench.run(work)
        except AssertionError as exc:
            sentence = (
                "'alpha' did not arrive while the server was silent after 'bravo'; pass each piece on at once"
            )
            raise AssertionError(sentence) from exc

    def test_any_chunking_gives_the_same(self, bench: Bench) -> None:
        """Bytes one by one: inside of letters, lines and events."""
        request = bench.expect(TALK)
        server = bench.server
        server.block_size = 1

        async def work(bridge: Bridge) -> str:
            await bench.warm_up(bridge)
            call = asyncio.ensure_future(bridge.generate(CONNECTION, request))
            call.add_done_callback(lambda _: server.look())
            for place in _CUTS:
                went_on = partial(_went_on, server, call, server.hung)
                server.release(then=Fault.hang(at=place, route=self.answer_route))
                await server.until(went_on, self.patience)
                for _ in range(_TURNS):  # what was sent before is read meanwhile
                    await asyncio.sleep(0)
            server.release()
            return (await call).text

        text = bench.run(work)
        check(
            text == "".join(TALK.text),
            f"in blocks of one byte {''.join(TALK.text)!r} becomes {text!r}: blocks may end anywhere, "
            "also inside of a letter",
        )

    def test_the_whole_answer_equals_the_folded_stream(self, bench: Bench) -> None:
        """``generate`` and ``stream`` tell the same."""
        request = bench.expect(TALK)

        async def work(bridge: Bridge) -> tuple[Result, Result]:
            streamed = folded(await collect(bridge, request)).result()
            return streamed, await bridge.generate(CONNECTION, request)

        streamed, whole = bench.run(work)
        differing = _same(streamed, whole)
        check(
            not differing,
            f"generate and stream differ in {', '.join(differing)}: "
            + "; ".join(f"{getattr(whole, name)!r} and {getattr(streamed, name)!r}" for name in differing),
        )

    def test_reasoning_is_apart(self, bench: Bench) -> None:
        """Thinking never stands in the text, and none of it is lost."""
        self.needs("reasoning")
        fold = folded(_stream(bench, THOUGHT))
        thought, text = "".join(THOUGHT.reasoning), "".join(THOUGHT.text)
        check(fold.text == text, f"with thinking before it the answer {text!r} becomes {fold.text!r}")
        check(
            fold.result().reasoning == thought,
            f"the server thought {thought!r}, the provider tells {fold.result().reasoning!r}",
        )

    def test_tool_calls_are_whole(self, bench: Bench) -> None:
        """Two calls at once: names, arguments as valid JSON, ids of their own, and the reason of the end."""
        self.needs("tools")
        result = folded(_stream(bench, USE)).result()
        wanted = [(call.name, json.loads(call.arguments)) for call in USE.tool_calls]
        try:
            got = [(call.name, json.loads(call.arguments)) for call in result.tool_calls]
        except ValueError as exc:
            arguments = [call.arguments for call in result.tool_calls]
            raise AssertionError(f"the folded arguments are no JSON: {arguments}") from exc
        check(got == wanted, f"the server called {wanted}, the provider tells {got}")
        ids = [call.id for call in result.tool_calls]
        check(all(ids) and len(set(ids)) == len(ids), f"each call needs an id of its own, not {ids}")
        check(
            result.finish_reason == "tool_calls",
            f"an answer that calls tools ends with the reason 'tool_calls', not {result.finish_reason!r}",
        )

    def test_usage_is_told(self, bench: Bench) -> None:
        """Tokens as the server counted them."""
        usage = folded(_stream(bench, TALK)).result().usage
        check(
            usage.completion_tokens,
            "the server told how many tokens it made, the provider does not: yield Usage",
        )

    def test_one_finish_comes_last(self, bench: Bench) -> None:
        """Progress, output, at most one usage, exactly one finish, and nothing behind it."""
        recorder = Recorder()
        request = bench.expect(TALK)
        bench.run(lambda bridge: collect(bridge, request), bridge=bench.bridge(middleware=recorder))
        if not recorder.events:
            pytest.skip("the provider answers as a whole: it has no 'stream'")
        kinds = [type(event) for event in recorder.events]
        names = ", ".join(kind.__name__ for kind in kinds)
        check(set(kinds) <= set(_EVENTS), f"these are not all events: {names}")
        check(kinds.count(Finish) == 1, f"exactly one Finish, not {kinds.count(Finish)}: {names}")
        check(kinds[-1] is Finish, f"nothing comes behind the Finish: {names}")
        check(kinds.count(Usage) <= 1, f"at most one Usage: {names}")
        first = next(at for at, kind in enumerate(kinds) if kind is not Progress)
        check(Progress not in kinds[first:], f"Progress comes before everything else: {names}")

    def test_the_finish_names_the_model(self, bench: Bench) -> None:
        """``Finish.model`` is what really answered, so that a wrong model is noticed."""
        finish = _stream(bench, TALK)[-1]
        check(isinstance(finish, Finish) and finish.model, f"Finish.model is empty: {finish!r}")
