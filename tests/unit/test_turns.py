"""Models that would push each other out of memory take turns."""

import asyncio
import threading

import pytest

from lmbridge.turns import Turn, Turns


class Listings:
    def __init__(self) -> None:
        self.forgotten: list[object] = []

    def forget(self, key) -> None:
        self.forgotten.append(key)


@pytest.fixture
def listings() -> Listings:
    return Listings()


@pytest.fixture
def turn_of(listings):
    shared = Turns()

    def make(model: str, *, loads: bool = False, key: str = "k") -> Turn:
        shared.remember(listings, key)
        return shared.turn(model, loads=loads)

    return make


async def begins(turn) -> bool:
    """Whether it may begin, in a task of its own as every reader has."""

    async def try_it() -> bool:
        return turn.try_acquire()

    return await asyncio.create_task(try_it())


async def waiting(turn) -> "asyncio.Task[None]":
    """Begin to wait, and return when the wait stands in the queue."""
    task = asyncio.ensure_future(turn.acquire())
    await asyncio.sleep(0)
    return task


async def test_loaded_models_and_requests_to_one_model_do_not_wait(turn_of):
    assert await begins(turn_of("a"))
    assert await begins(turn_of("b"))
    assert await begins(turn_of("a"))


async def test_a_load_waits_for_the_answers_of_other_models(turn_of):
    running = [turn_of("a"), turn_of("a")]
    assert [await begins(turn) for turn in running] == [True, True]
    load = turn_of("b", loads=True)
    assert not await begins(load)
    task = await waiting(load)
    running[0].release()
    await asyncio.sleep(0)
    assert not task.done()
    running[1].release()
    await task


async def test_several_requests_wait_for_one_load_together(turn_of):
    assert await begins(turn_of("a", loads=True))
    assert await begins(turn_of("a", loads=True))
    assert not await begins(turn_of("b"))


async def test_nobody_is_overtaken_by_the_model_that_runs(turn_of):
    first = turn_of("a")
    assert await begins(first)
    load = await waiting(turn_of("b", loads=True))
    late = turn_of("a")
    assert not await begins(late)
    late_task = await waiting(late)
    first.release()
    await load
    assert not late_task.done()


async def test_what_has_waited_may_have_lost_its_model(turn_of):
    load = turn_of("b", loads=True)
    assert await begins(load)
    waited = turn_of("a")
    task = await waiting(waited)
    load.release()
    await task
    assert waited.loads
    assert not await begins(turn_of("b"))


async def test_a_wait_that_is_given_up_lets_the_next_pass(turn_of):
    first = turn_of("a")
    assert await begins(first)
    load = await waiting(turn_of("b", loads=True))
    next_one = await waiting(turn_of("a"))
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    await asyncio.wait_for(next_one, 10)


async def test_a_wait_that_is_cancelled_as_it_is_granted_takes_no_turn(turn_of):
    first = turn_of("a")
    assert await begins(first)
    load = await waiting(turn_of("b", loads=True))
    first.release()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert await begins(turn_of("c", loads=True))


async def test_what_was_known_of_the_server_is_forgotten_after_a_load(turn_of, listings):
    quiet = turn_of("a", key="one")
    assert await begins(quiet)
    quiet.release()
    assert not listings.forgotten
    load = turn_of("a", loads=True, key="two")
    assert await begins(load)
    load.release()
    assert sorted(listings.forgotten) == ["one", "two"]


async def test_a_turn_on_a_loop_that_is_gone_is_free(turn_of):
    async def take() -> None:
        assert await begins(turn_of("a", loads=True))

    await asyncio.to_thread(asyncio.run, take())
    assert await begins(turn_of("b", loads=True))


async def test_a_turn_is_given_back_from_another_thread(turn_of):
    first = turn_of("a")
    assert await begins(first)
    task = await waiting(turn_of("b", loads=True))
    thread = threading.Thread(target=first.release)
    thread.start()
    await asyncio.wait_for(task, 10)
    await asyncio.to_thread(thread.join)


async def test_who_waited_on_a_loop_that_is_gone_is_passed_over(turn_of):
    first = turn_of("a")
    assert await begins(first)
    dead = turn_of("b", loads=True)

    loop = asyncio.new_event_loop()
    task = loop.create_task(dead.acquire())
    await asyncio.to_thread(lambda: loop.run_until_complete(asyncio.sleep(0)))
    assert not task.done()
    loop.close()
    task.get_coro().close()
    task._log_destroy_pending = False
    first.release()
    assert await begins(turn_of("c", loads=True))


async def test_a_task_does_not_wait_for_itself(turn_of):
    reading = turn_of("a")
    assert reading.try_acquire()
    assert turn_of("b", loads=True).try_acquire()
    assert not await begins(turn_of("c", loads=True))
