"""Several event loops in one process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmbridge.testing.bench import CONNECTION, Bench
from lmbridge.testing.checks import check
from lmbridge.testing.conformance.base import Base
from lmbridge.testing.faults import Fault
from lmbridge.testing.remains import in_new_loop
from lmbridge.testing.turns import TALK

if TYPE_CHECKING:
    from lmbridge.bridge import Bridge

__all__ = ["Loops"]


class Loops(Base):
    """One instance of the provider serves any number of loops: clients belong to a loop, never to it."""

    def test_one_loop_after_the_other(self, bench: Bench) -> None:
        """``asyncio.run`` twice with one bridge."""
        request = bench.expect(TALK)
        bridge = bench.bridge()

        async def work(bridge: Bridge) -> str:
            async with asyncio.timeout(self.patience):
                return (await bridge.generate(CONNECTION, request)).text

        texts = [in_new_loop(lambda: work(bridge))]
        try:
            bench.expect(TALK)
            texts.append(bench.run(work, bridge=bridge))
        except Exception as exc:
            raise AssertionError(f"in a second event loop the provider fails: {exc!r}") from exc
        check(texts == ["".join(TALK.text)] * 2, f"in two loops, one after the other, it answers {texts}")

    def test_two_loops_at_once(self, bench: Bench) -> None:
        """Two threads, each with a loop, wait for the same server at the same time."""
        request = bench.expect(TALK)
        bridge = bench.bridge()
        server = bench.server

        async def work() -> str:
            async with asyncio.timeout(self.patience):
                return (await bridge.generate(CONNECTION, request)).text

        async def main(bridge: Bridge) -> list[str]:
            await bench.warm_up(bridge)
            server.fail(Fault.hang(at=self.after("bravo"), route=self.answer_route))
            answers = [asyncio.ensure_future(asyncio.to_thread(in_new_loop, work)) for _ in range(2)]
            for answer in answers:
                answer.add_done_callback(lambda _: server.look())
            try:
                await server.until(
                    lambda: server.hanging == 2 or any(answer.done() for answer in answers), self.patience / 2
                )
            except TimeoutError as exc:
                raise AssertionError(f"two loops at once wait for each other: {exc}") from exc
            finally:
                server.release()
            try:
                return await asyncio.gather(*answers)
            except Exception as exc:
                raise AssertionError(f"in two loops at once the provider fails: {exc!r}") from exc

        texts = bench.run(main, bridge=bridge)
        check(texts == ["".join(TALK.text)] * 2, f"in two loops at once it answers {texts}")

    def test_the_loop_goes_on_while_the_server_is_silent(self, bench: Bench) -> None:
        """No call of the provider blocks the thread: other tasks of the loop have their turn."""
        request = bench.expect(TALK)
        server = bench.server

        async def work(bridge: Bridge) -> str:
            await bench.warm_up(bridge)
            server.fail(Fault.hang(at=self.after("bravo"), route=self.answer_route))
            task = asyncio.ensure_future(bridge.generate(CONNECTION, request))
            task.add_done_callback(lambda _: server.look())
            await server.until(lambda: server.hanging or task.done(), self.patience)
            server.release()  # only a loop that is not blocked gets here
            return (await task).text

        text = bench.run(work)
        check(text == "".join(TALK.text), f"after a silence in the middle it answers {text!r}")
