"""Who is told what when a call is cancelled, stopped or timed out; and what is left behind then."""

import asyncio
import gc
import sys

import pytest

from lmbridge import (
    Cancelled,
    Finish,
    LoadedInstance,
    Message,
    Model,
    ModelNotFound,
    PluginError,
    Progress,
    ProviderInfo,
    Request,
    ServerUnreachable,
    TextDelta,
    TimedOut,
    Timeouts,
    hookimpl,
)
from lmbridge.limits import limiter

ASK = Request(model="m", messages=[Message.user("hi")])
BOTH = pytest.mark.parametrize("cooperative", [True, False], ids=["cooperative", "isolated"])


def streaming(function, *, cooperative=True, **fields):
    """Return a provider class whose stream is ``function(request, context)``."""

    class Acme:
        info = ProviderInfo(title="acme", cooperative=cooperative)

        @hookimpl
        def stream(self, request, context):
            return function(request, context)

        @hookimpl
        async def list_models(self, context):
            return []

    for name, value in fields.items():
        setattr(Acme, name, value)
    return Acme


async def collect(bridge, request=ASK, name="acme"):
    async with bridge.stream(name, request) as events:
        return [event async for event in events]


def clocked(**clocks):
    return ASK.replace(timeouts=Timeouts(**clocks))


@BOTH
def test_a_timeout_leaves_no_cancellation_on_the_readers_task(make_bridge, in_virtual_time, cooperative):
    async def hang(request, context):
        await asyncio.Event().wait()
        yield

    async def main():
        bridge = make_bridge({"acme": streaming(hang, cooperative=cooperative)})
        with pytest.raises(TimedOut):
            await bridge.generate("acme", clocked(total=5))
        return asyncio.current_task().cancelling()

    assert in_virtual_time(main) == 0


@pytest.mark.parametrize("turned_into", [RuntimeError("x"), ServerUnreachable("x", sent=False), None])
@BOTH
def test_what_a_provider_makes_of_a_cancellation_changes_nothing(
    make_bridge, in_virtual_time, turned_into, cooperative
):
    tries = []

    async def translate(request, context):
        tries.append(request)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if turned_into is None:
                return
            raise turned_into from None
        yield

    async def main():
        bridge = make_bridge({"acme": streaming(translate, cooperative=cooperative)})
        with pytest.raises(TimedOut) as caught:
            await bridge.generate("acme", clocked(first_event=5))
        assert caught.value.clock == "first_event"
        assert caught.value.connection == "acme"
        return asyncio.current_task().cancelling()

    assert in_virtual_time(main) == 0
    assert len(tries) == 1


def test_an_answer_that_is_complete_in_spite_of_the_interruption_counts(make_bridge, in_virtual_time):
    async def late(request, context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield Finish("stop")

    async def main():
        await make_bridge({"acme": streaming(late)}).generate("acme", clocked(total=5))
        return asyncio.current_task().cancelling()

    assert in_virtual_time(main) == 0


def test_a_cancellation_from_outside_wins_over_a_timeout_of_the_same_moment(make_bridge, in_virtual_time):
    async def hang(request, context):
        await asyncio.Event().wait()
        yield

    async def main():
        bridge = make_bridge({"acme": streaming(hang)})
        reader = asyncio.create_task(bridge.generate("acme", clocked(total=5)))
        while not reader.done():
            await asyncio.sleep(0.5)
            if asyncio.get_running_loop().time() >= 4.5:
                break
        asyncio.get_running_loop().call_at(5, reader.cancel)  # the timer of the call is older by now
        await asyncio.wait({reader})
        return reader

    assert in_virtual_time(main).cancelled()


async def test_cancelled_before_and_stopped_after_is_cancelled(make_bridge):
    waiting = asyncio.Event()

    async def hang(request, context):
        waiting.set()
        await asyncio.Event().wait()
        yield

    bridge = make_bridge({"acme": streaming(hang)})
    reader = asyncio.create_task(bridge.generate("acme", ASK))
    await waiting.wait()
    reader.cancel()
    await bridge.close()
    await asyncio.wait({reader}, timeout=10)
    assert reader.cancelled()


@BOTH
async def test_a_cancellation_that_nobody_asked_for_is_the_providers_mistake(make_bridge, cooperative):
    async def inner_cancelled(request, context):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        yield

    bridge = make_bridge({"acme": streaming(inner_cancelled, cooperative=cooperative)})
    with pytest.raises(PluginError, match="'acme' raised CancelledError"):
        await asyncio.wait_for(bridge.generate("acme", ASK), 10)


async def test_a_reader_does_not_wait_for_a_call_whose_task_somebody_cancelled(make_bridge):
    begun = asyncio.Event()

    async def hang(request, context):
        begun.set()
        await asyncio.Event().wait()
        yield

    bridge = make_bridge({"acme": streaming(hang, cooperative=False)})
    reader = asyncio.create_task(bridge.generate("acme", ASK))
    await begun.wait()
    for task in asyncio.all_tasks() - {reader, asyncio.current_task()}:
        task.cancel()
    with pytest.raises(Cancelled) as caught:
        await asyncio.wait_for(reader, 10)
    assert caught.value.connection == "acme"


@pytest.mark.parametrize("how", ["timeout", "close"])
@BOTH
def test_an_interruption_while_near_matches_are_looked_for(make_bridge, in_virtual_time, how, cooperative):
    asked = asyncio.Event()

    async def missing(request, context):
        raise ModelNotFound("no such model", model="x")
        yield

    class Acme(streaming(missing, cooperative=cooperative)):
        @hookimpl
        async def list_models(self, context):
            asked.set()
            await asyncio.Event().wait()

    async def main():
        bridge = make_bridge({"acme": Acme})
        reader = asyncio.create_task(bridge.generate("acme", clocked(total=1)))
        if how == "close":
            await asked.wait()
            await bridge.close()
        with pytest.raises(TimedOut if how == "timeout" else Cancelled) as caught:
            await reader
        return caught.value

    assert in_virtual_time(main).connection == "acme"


@pytest.mark.parametrize("leaving", ["cancel", "close"])
@BOTH
def test_the_pause_before_a_retry_can_be_left(make_bridge, in_virtual_time, leaving, cooperative):
    tried = asyncio.Event()

    async def refuse(request, context):
        tried.set()
        raise ServerUnreachable("refused", sent=False)
        yield

    async def main():
        bridge = make_bridge({"acme": streaming(refuse, cooperative=cooperative)})
        reader = asyncio.create_task(bridge.generate("acme", ASK))
        await tried.wait()
        await asyncio.sleep(0.1)
        if leaving == "cancel":
            reader.cancel()
        else:
            await bridge.close()
        await asyncio.wait({reader})
        return reader, asyncio.get_running_loop().time()

    reader, when = in_virtual_time(main)
    assert when < 0.25
    assert reader.cancelled() if leaving == "cancel" else isinstance(reader.exception(), Cancelled)


@pytest.mark.parametrize("leaving", ["cancel", "close"])
async def test_the_queue_can_be_left(make_bridge, leaving):
    gate, begun = asyncio.Event(), asyncio.Event()

    async def slow(request, context):
        begun.set()
        await gate.wait()
        yield Finish("stop")

    name = f"queue-left-by-{leaving}"
    bridge, other = (
        make_bridge({name: streaming(slow)}, connections={name: {"max_concurrency": 1}}) for _ in range(2)
    )
    first = asyncio.create_task(bridge.generate(name, ASK))
    await begun.wait()
    queued = asyncio.Event()

    async def wait():
        async with other.stream(name, ASK) as events:
            async for _ in events:
                queued.set()

    second = asyncio.create_task(wait())
    await queued.wait()
    await asyncio.sleep(0)
    if leaving == "cancel":
        second.cancel()
    else:
        await other.close()
    await asyncio.wait({second}, timeout=10)
    assert second.cancelled() if leaving == "cancel" else isinstance(second.exception(), Cancelled)
    gate.set()
    await first
    slots = limiter(("calls", (name, "")))
    assert (slots.active, slots.waiting) == (0, 0)


@BOTH
async def test_closing_the_bridge_behind_the_finish_is_no_error(make_bridge, cooperative):
    async def short(request, context):
        yield TextDelta("x")
        yield Finish("stop")

    bridge = make_bridge({"acme": streaming(short, cooperative=cooperative)})
    seen = []
    async with bridge.stream("acme", ASK) as events:
        async for event in events:
            seen.append(type(event))
            if isinstance(event, Finish):
                await bridge.close()
    assert seen == [TextDelta, Finish]


def test_a_provider_that_cleans_up_for_long_does_not_hold_the_end_back(make_bridge, in_virtual_time):
    cleaned = asyncio.Event()

    async def slow_end(request, context):
        try:
            yield TextDelta("x")
            yield Finish("stop")
        finally:
            await asyncio.sleep(0.2)
            cleaned.set()

    async def main():
        bridge = make_bridge({"acme": streaming(slow_end, cooperative=False)})
        async with bridge.stream("acme", ASK) as events:
            async for event in events:
                if isinstance(event, Finish):
                    break
            assert not cleaned.is_set()
        return cleaned.is_set()

    assert in_virtual_time(main)


async def test_the_providers_iterator_is_closed_though_the_middlewares_hangs(make_bridge):
    closed = asyncio.Event()

    async def endless(request, context):
        try:
            while True:
                yield TextDelta("x")
        finally:
            closed.set()

    class Stubborn:
        @hookimpl(wrapper=True)
        def stream(self, request, context):
            inner = yield

            async def outer():
                try:
                    yield await anext(inner)
                    yield await anext(inner)
                finally:
                    await asyncio.Event().wait()

            return outer()

    bridge = make_bridge({"acme": streaming(endless)}, middleware={"stubborn": Stubborn})
    async with bridge.stream("acme", ASK) as events:
        await anext(events)
    await asyncio.wait_for(closed.wait(), 10)


async def test_a_retry_closes_what_the_first_attempt_left_open(make_bridge):
    closed = []

    async def answer(request, context):
        try:
            yield TextDelta("x")
            yield Finish("stop")
        finally:
            closed.append(True)

    class Refuses:
        left = 1

        @hookimpl(wrapper=True)
        def stream(self, request, context):
            inner = yield

            async def outer():
                first = await anext(inner)
                if Refuses.left:
                    Refuses.left -= 1
                    Refuses.inner = inner
                    raise ServerUnreachable("not yet", sent=False)
                yield first
                async for event in inner:
                    yield event

            return outer()

    bridge = make_bridge({"acme": streaming(answer)}, middleware={"refuses": Refuses})
    assert (await bridge.generate("acme", ASK)).text == "x"
    assert closed == [True, True]


def test_a_stream_that_is_never_read_leaves_no_clock_running(make_bridge, in_virtual_time):
    async def short(request, context):
        yield Finish("stop")

    async def main():
        bridge = make_bridge({"acme": streaming(short)})
        async with bridge.stream("acme", clocked(total=3600)):
            pass
        await bridge.close()
        return [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]

    assert in_virtual_time(main) == []


async def test_an_abandoned_stream_gives_its_slot_back(make_bridge):
    async def endless(request, context):
        while True:
            yield TextDelta("x")

    name = "abandoned"
    bridge = make_bridge({name: streaming(endless)}, connections={name: {"max_concurrency": 1}})

    async def batches():
        async with bridge.stream_batches(name, ASK) as opened:
            async for batch in opened:
                yield batch

    async for _ in batches():
        break
    slots = limiter(("calls", (name, "")))
    async with asyncio.timeout(10):
        while slots.active:
            gc.collect()
            await asyncio.sleep(0)


async def test_a_call_that_is_prepared_while_the_bridge_closes_sends_nothing(make_bridge):
    asked, go = asyncio.Event(), asyncio.Event()
    streamed = []

    async def stream(request, context):
        streamed.append(True)
        yield Finish("stop")

    class Acme(streaming(stream)):
        @hookimpl
        async def list_models(self, context):
            asked.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                return [Model(id="m", loaded=(LoadedInstance(id="m"),))]  # does not let go

    bridge = make_bridge({"acme": Acme})
    reader = asyncio.create_task(bridge.generate("acme", ASK.replace(model=None)))
    await asked.wait()
    await bridge.close()
    with pytest.raises(Cancelled):
        await asyncio.wait_for(reader, 10)
    assert streamed == []


async def test_a_stream_that_was_made_before_the_bridge_closed_is_refused(make_bridge):
    async def stream(request, context):
        yield Finish("stop")

    bridge = make_bridge({"acme": streaming(stream)})
    opened = bridge.stream("acme", ASK)
    await bridge.close()
    with pytest.raises(Cancelled):
        async with opened as events:
            await anext(events)
    assert await collect(bridge)  # the bridge itself may be used again


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
@BOTH
async def test_eager_tasks(make_bridge, cooperative):
    closed = []

    async def stream(request, context):
        try:
            yield Progress("loading model")
            async with asyncio.timeout(10):
                await asyncio.sleep(0)
            yield [TextDelta("a"), TextDelta("b")]
            if request.model == "endless":
                await asyncio.Event().wait()
            yield Finish("stop")
        finally:
            closed.append(True)

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    bridge = make_bridge({"acme": streaming(stream, cooperative=cooperative)})
    assert (await bridge.generate("acme", ASK)).text == "ab"
    assert [type(event) for event in await collect(bridge)] == [Progress, TextDelta, TextDelta, Finish]
    async with bridge.stream("acme", ASK.replace(model="endless")) as events:
        assert await anext(events) == Progress("loading model")
    async with bridge.stream("acme", ASK.replace(model="endless")) as events:
        seen = [await anext(events) for _ in range(3)]
        reader = asyncio.create_task(anext(events))
    with pytest.raises(Cancelled):
        await reader
    assert seen[1:] == [TextDelta("a"), TextDelta("b")]
    assert closed == [True] * 4
    assert asyncio.current_task().cancelling() == 0
