"""One timer looks at many clocks, each in its time."""

import asyncio

import pytest

from lmbridge.ticker import Ticker


class Clock:
    """Notes when it was looked at, and is dropped unless it says when to come back."""

    def __init__(self, ticker: Ticker, name: str, due: float, seen: list[str], again: float = 0.0) -> None:
        self.ticker, self.name, self.due, self.seen, self.again = ticker, name, due, seen, again
        self.looked = asyncio.Event()

    def look(self, now: float) -> None:
        assert now >= self.due
        self.seen.append(self.name)
        self.looked.set()
        if self.again:
            self.due, self.again = now + self.again, 0.0
        else:
            self.ticker.drop(self)


@pytest.fixture
async def make():
    loop = asyncio.get_running_loop()
    ticker, seen = Ticker(loop), []

    def clock(name: str, seconds: float, **more) -> Clock:
        made = Clock(ticker, name, loop.time() + seconds, seen, **more)
        ticker.add(made)
        return made

    clock.seen, clock.ticker = seen, ticker
    return clock


async def test_each_is_looked_at_in_its_time_whatever_the_order_of_adding(make):
    late, early = make("late", 0.03), make("early", 0.01)
    await asyncio.wait_for(late.looked.wait(), 10)
    assert make.seen == ["early", "late"]
    assert early.looked.is_set()


async def test_one_that_is_not_done_is_looked_at_again(make):
    clock = make("a", 0.01, again=0.01)
    await asyncio.wait_for(clock.looked.wait(), 10)
    clock.looked.clear()
    await asyncio.wait_for(clock.looked.wait(), 10)
    assert make.seen == ["a", "a"]


async def test_what_is_dropped_is_left_alone(make):
    gone, other = make("gone", 0.01), make("other", 0.02)
    make.ticker.drop(gone)
    await asyncio.wait_for(other.looked.wait(), 10)
    assert make.seen == ["other"]


async def test_one_may_drop_another_that_is_due_as_well(make):
    clocks = [make(name, 0.01) for name in "ab"]
    for clock, other in zip(clocks, reversed(clocks), strict=True):
        clock.look = lambda now, clock=clock, other=other: (make.ticker.drop(other), Clock.look(clock, now))
    last = make("last", 0.03)
    await asyncio.wait_for(last.looked.wait(), 10)
    assert make.seen in (["a", "last"], ["b", "last"])


async def test_one_that_fails_does_not_stop_the_others(make):
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    broken = make("broken", 0.01)

    def fail(_: float) -> None:
        make.ticker.drop(broken)
        raise ValueError("broken")

    broken.look = fail
    last = make("last", 0.03)
    await asyncio.wait_for(last.looked.wait(), 10)
    assert [type(error) for error in errors] == [ValueError]


async def test_one_that_fails_is_looked_at_no_more(make):
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    broken = make("broken", 0.01)

    def fail(_: float) -> None:
        raise ValueError("broken")

    broken.look = fail
    last = make("last", 0.03)
    await asyncio.wait_for(last.looked.wait(), 10)
    assert [type(error) for error in errors] == [ValueError]


class Coarse:
    """A loop whose timers come before their time, as on Windows."""

    def __init__(self) -> None:
        self.timers = []

    def time(self) -> float:
        return 0.99

    def call_at(self, when, callback):
        self.timers.append((when, callback))
        return self

    def when(self) -> float:
        return self.timers[-1][0]

    def cancel(self) -> None:
        pass


def test_a_timer_that_comes_early_is_in_time():
    loop, seen = Coarse(), []
    ticker = Ticker(loop)
    ticker.add(Clock(ticker, "a", 1.0, seen))
    loop.timers[-1][1]()
    assert seen == ["a"]
    assert len(loop.timers) == 1
