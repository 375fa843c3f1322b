"""Answers that nobody wants any more and that go on, and waits that never end."""

import asyncio

import pytest

import lmbridge
from lmbridge import Options

GRANITE, QWEN = "ibm/granite-4-micro", "qwen/qwen3-4b"
LONG = "[[thoughts=20]][[words=500]]"


def long(**fields) -> lmbridge.Request:
    return lmbridge.Request(**{"model": QWEN, "messages": [lmbridge.Message.user(LONG)]} | fields)


async def stopped(stand) -> None:
    await stand.emulator.wait_for(lambda _: stand.predictions and stand.predictions[-1].state != "open")
    record = stand.predictions[-1]
    assert record.cancelled, (record.state, record.reason)


async def break_off(_):
    """Leave the loop."""


async def close_it(events):
    await events.aclose()


async def raise_something(_):
    raise LookupError


async def time_out(_):
    await asyncio.wait_for(asyncio.Event().wait(), 0.01)


async def be_cancelled(_):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


WAYS = {
    break_off: None,
    close_it: None,
    raise_something: LookupError,
    time_out: TimeoutError,
    be_cancelled: asyncio.CancelledError,
}


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_the_stream_stops_nothing(make_stand, via, way):
    """``break``, ``aclose()``, a timeout or the cancellation of the task send the server nothing.

    Source: lmstudio-python (AsyncPredictionStream); lmstudio-bug-tracker#1203.
    """
    stand = await make_stand()
    stand.emulator.gates.hold("answering", after=3)

    async def read() -> None:
        async with stand.bridge.stream(via, long()) as events:
            async for event in events:
                if isinstance(event, lmbridge.TextDelta):
                    await way(events)
                    break

    reading = asyncio.ensure_future(read())
    await asyncio.wait({reading}, timeout=30)
    expected = WAYS[way] or type(None)
    assert reading.cancelled() if way is be_cancelled else type(reading.exception()) is expected
    await stopped(stand)


@pytest.mark.parametrize("phase", ["loading", "prompt", "reasoning", "answering"])
async def test_a_stop_counts_in_every_phase(make_stand, via, phase):
    """During load and prompt clients cannot stop at all, or the caller hangs until the server is done.

    Source: lmstudio-bug-tracker#1143, #944; open-historia#338.
    """
    stand = await make_stand(load_survives_disconnect=False)
    gate = stand.emulator.gates.hold(phase)
    task = asyncio.ensure_future(stand.bridge.generate(via, long()))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.release()
    await stand.emulator.wait_for(lambda emulator: all(r.state != "open" for r in stand.predictions))
    assert all(record.cancelled for record in stand.predictions)
    assert phase != "loading" or not stand.emulator.instances


async def test_a_request_without_stream_is_worked_to_its_end(make_stand, via):
    """The server notices late or never that the client of a request without ``stream`` has left.

    Source: Open-Historia/open-historia#338.
    """
    stand = await make_stand(stop_without_stream=False)
    gate = stand.emulator.gates.hold("answering", after=3)
    task = asyncio.ensure_future(stand.bridge.generate(via, long()))  # the whole answer is wanted
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.release()
    await stopped(stand)


async def test_the_result_of_a_stream_that_was_left_raises_generator_exit(make_stand):
    """After ``break`` the SDK's ``result()`` raises ``GeneratorExit``, which no ``except Exception`` catches.

    Source: lmstudio-python (PredictionStreamBase.result).
    """
    stand = await make_stand()
    for _ in range(3):
        async with stand.bridge.stream("sdk", long()) as events:
            async for event in events:
                if isinstance(event, lmbridge.TextDelta):
                    break
    assert (await stand.ask("sdk", "[[say=still fine]]")).text == "still fine"


async def test_a_stream_that_was_left_keeps_its_slot(make_stand, via):
    """An abandoned answer holds one of the server's slots until it is done.

    Source: lmstudio-bug-tracker#1653; lmstudio-python (AsyncPredictionStream).
    """
    stand = await make_stand(loaded=(QWEN,), parallel=1)
    async with stand.bridge.stream(via, long()) as events:
        async for event in events:
            if isinstance(event, lmbridge.TextDelta):
                break
    async with asyncio.timeout(30):
        assert (await stand.ask(via, "[[say=my turn]]", model=QWEN)).text == "my turn"
    assert stand.predictions[0].cancelled


async def test_a_stop_before_the_begin_is_forgotten(make_stand):
    """A cancel of the SDK before its stream was started does nothing, and iterating it later still runs.

    Source: lmstudio-python (PredictionStream.cancel).
    """
    stand = await make_stand()
    async with stand.bridge.stream("sdk", long()):
        pass  # nobody read
    assert not stand.predictions
    assert not stand.emulator.instances


async def test_the_server_never_says_anything(make_stand, via):
    """LM Studio has no limit of time of its own, and the asynchronous SDK has none either.

    Source: lmstudio-bug-tracker#570, #1826; lmstudio-python#119.
    """
    stand = await make_stand(loaded=(GRANITE,), prompt_progress=False)
    await stand.ask(via)  # opens the connections
    gate = stand.emulator.gates.hold("prompt")
    with pytest.raises(lmbridge.TimedOut) as caught:
        await stand.ask(via, timeouts=lmbridge.Timeouts(first_event=0.5))
    assert caught.value.clock == "first_event"
    assert caught.value.hint
    gate.release()
    await stand.emulator.wait_for(lambda _: all(record.state != "open" for record in stand.predictions))
    assert all(record.cancelled for record in stand.predictions[1:])


async def test_the_server_falls_silent_in_the_middle(make_stand, via):
    """An answer that stands still at some token is waited for without end.

    Source: lmstudio-bug-tracker#1826; mattjohnpowell/comfyui-lmstudio-image-to-text-node#26.
    """
    stand = await make_stand(loaded=(GRANITE,), fields={"idle_timeout": 0.2})
    gate = stand.emulator.gates.hold("answering", after=5)
    partial, error = await stand.until_error(via, "[[words=20]]")
    assert isinstance(error, lmbridge.TimedOut)
    assert error.clock == "idle"
    assert partial.text
    gate.release()
    await stopped(stand)


async def test_a_long_prompt_is_no_timeout(make_stand, via):
    """A client's limit of 60 or 300 seconds ends requests whose prompt simply takes longer to read.

    Source: lmstudio-bug-tracker#944; mattjohnpowell/comfyui-lmstudio-image-to-text-node#26.
    """
    stand = await make_stand(loaded=(GRANITE,), prompt_progress=False, fields={"idle_timeout": 0.05})
    gate = stand.emulator.gates.hold("prompt")
    answer = asyncio.ensure_future(stand.ask(via, "[[say=read]]"))
    await gate.reached()
    await asyncio.wait({answer}, timeout=0.3)
    assert not answer.done()  # six times the limit for an answer under way
    answer.cancel()
    gate.release()


async def test_a_timeout_says_nothing(make_stand):
    """The SDK's ``LMStudioTimeoutError`` has an empty message.

    Source: lmstudio-python (LMStudioTimeoutError).
    """
    stand = await make_stand(loaded=(GRANITE,), fields={"total_timeout": 0.2})
    gate = stand.emulator.gates.hold("answering")
    with pytest.raises(lmbridge.TimedOut, match=r"0\.2") as caught:
        await stand.ask("sdk", options=Options(max_tokens=5))
    assert isinstance(caught.value, TimeoutError)
    gate.release()
