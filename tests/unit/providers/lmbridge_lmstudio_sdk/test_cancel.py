"""Leaving at any moment: the server is told, the caller is free, nothing is left behind."""

import asyncio

import pytest

from lmbridge import LoadRequest, Progress, TextDelta
from lmbridge.errors import ProtocolError

TEXT = "ibm/granite-4-micro"
SLOW = "meta/llama-3.3-70b"


async def until(stream, kind):
    async for batch in stream:
        if any(isinstance(event, kind) for event in batch):
            return


async def leave_by_closing(stream, held):
    await until(stream, held)
    await stream.aclose()


async def leave_by_cancelling(stream, held):
    there = asyncio.Event()

    async def read():
        async for batch in stream:
            if any(isinstance(event, held) for event in batch):
                there.set()

    task = asyncio.create_task(read())
    await there.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await stream.aclose()


async def leave_by_timeout(stream, held):
    await until(stream, held)

    async def read():
        async for _ in stream:
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.05)
    await stream.aclose()


LEAVING = [leave_by_closing, leave_by_cancelling, leave_by_timeout]


@pytest.mark.parametrize("leave", LEAVING)
async def test_in_the_middle_of_the_answer(emulate, make_context, provider, ask, leave):
    emulator = await emulate(loaded=(TEXT,))
    gate = emulator.gates.hold("answering", after=5)
    stream = provider.stream(ask.request("[[words=500]]", model=TEXT), make_context(emulator.url))
    await leave(stream, TextDelta)
    await emulator.wait_for(lambda server: server.find("predict")[-1].frames)
    assert emulator.find("predict")[-1].frames == [{"type": "cancel"}]
    gate.release()
    await emulator.wait_for(lambda server: server.find("predict")[-1].cancelled)
    assert emulator.find("predict")[-1].tokens < 20


@pytest.mark.parametrize("leave", LEAVING)
async def test_while_the_prompt_is_read(emulate, make_context, provider, ask, leave):
    emulator = await emulate(loaded=(TEXT,), finish_prompt_on_cancel=False)
    gate = emulator.gates.hold("prompt", after=2)
    stream = provider.stream(ask.request(model=TEXT), make_context(emulator.url))
    await leave(stream, Progress)
    await emulator.wait_for(lambda server: server.find("predict")[-1].frames)
    gate.release()
    await emulator.wait_for(lambda server: server.find("predict")[-1].cancelled)
    assert emulator.find("predict")[-1].tokens == 0


@pytest.mark.parametrize("leave", LEAVING)
async def test_while_the_model_is_loaded(emulate, make_context, provider, ask, leave):
    emulator = await emulate(load_survives_disconnect=False)
    gate = emulator.gates.hold("loading", after=3)
    stream = provider.stream(ask.request(model=SLOW), make_context(emulator.url))
    await leave(stream, Progress)
    await emulator.wait_for(lambda server: server.find("getOrLoad")[-1].frames)
    assert emulator.find("getOrLoad")[-1].frames == [{"type": "cancel"}]
    gate.release()
    await emulator.wait_for(lambda server: server.find("getOrLoad")[-1].cancelled)
    assert not emulator.instances
    assert not emulator.find("predict")


async def test_an_explicit_load(emulate, make_context, provider):
    emulator = await emulate(load_survives_disconnect=False)
    emulator.gates.hold("loading", after=3)
    stream = provider.load_model(LoadRequest(model=SLOW), make_context(emulator.url))
    assert isinstance(await anext(stream), Progress)
    await stream.aclose()
    await emulator.wait_for(lambda server: server.find("loadModel")[-1].frames)
    emulator.gates.release()
    await emulator.wait_for(lambda server: server.find("loadModel")[-1].cancelled)
    assert not emulator.instances


async def test_a_load_that_ignores_the_cancel_is_undone(scripted, make_context, provider, ask, packets):
    release = asyncio.Event()

    async def load(channel):
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        await channel.cancelled()
        await release.wait()
        await channel.send({"type": "loadSuccess", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    scripted.calls["unloadModel"] = lambda _: None
    stream = provider.stream(ask.request(), make_context(scripted.url))
    await anext(stream)
    await stream.aclose()
    release.set()
    await scripted.wait_for(lambda: scripted.sent("unloadModel"))
    assert scripted.sent("unloadModel")[0]["parameter"] == {"identifier": "test/model"}
    assert not scripted.sent("predict")


async def test_a_model_that_was_there_is_not_unloaded(scripted, make_context, provider, ask, packets):
    asked, release = asyncio.Event(), asyncio.Event()

    async def load(channel):
        asked.set()
        await release.wait()
        await channel.send({"type": "alreadyLoaded", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    scripted.calls["unloadModel"] = lambda _: None
    context = make_context(scripted.url)
    task = asyncio.create_task(anext(provider.stream(ask.request(), context)))
    await asked.wait()
    task.cancel()
    await asyncio.wait({task})
    scripted.channels["getOrLoad"] = lambda channel: channel.send(
        {"type": "alreadyLoaded", "info": packets.info}
    )
    release.set()
    # Another model's answer, over the same socket, comes after all that the first call still does.
    assert (await ask(context, model="other/model")).text == "Hello"
    assert not scripted.sent("unloadModel")


async def test_a_load_that_another_call_waits_for_goes_on(scripted, make_context, provider, ask, packets):
    release = asyncio.Event()

    async def load(channel):
        await channel.send({"type": "startLoading", "identifier": "test/model", "info": packets.info})
        await release.wait()
        await channel.send({"type": "loadSuccess", "info": packets.info})

    scripted.channels["getOrLoad"] = load
    context = make_context(scripted.url)
    first = provider.stream(ask.request(), context)
    await anext(first)
    second = asyncio.create_task(ask(context))
    await scripted.wait_for(lambda: len(scripted.sent("getOrLoad")) == 2)
    await first.aclose()
    release.set()
    assert (await second).text == "Hello"
    assert not scripted.sent("unloadModel")
    assert not [frame for frame in scripted.sent("channelSend") if frame["message"] == {"type": "cancel"}]


async def test_before_anything_was_begun(scripted, make_context, provider, ask):
    """Left while the connection is being made: no model is loaded and nothing is predicted."""
    asked, release = asyncio.Event(), asyncio.Event()
    greet = scripted.greeting

    async def slowly(request):
        asked.set()
        await release.wait()
        return await greet(request)

    scripted.greeting = slowly
    context = make_context(scripted.url)
    task = asyncio.create_task(anext(provider.stream(ask.request(), context)))
    await asked.wait()
    task.cancel()
    await asyncio.wait({task})
    release.set()
    await provider.health(context)  # waits for the connection that the first call began
    assert not scripted.sent("predict")


async def test_the_stop_signal_survives_a_second_cancellation(emulate, make_context, provider, ask):
    emulator = await emulate(loaded=(TEXT,))
    emulator.gates.hold("answering", after=2)
    stream = provider.stream(ask.request("[[words=500]]", model=TEXT), make_context(emulator.url))
    there = asyncio.Event()

    async def read():
        async for batch in stream:
            if any(isinstance(event, TextDelta) for event in batch):
                there.set()

    task = asyncio.create_task(read())
    await there.wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait({task})
    await emulator.wait_for(lambda server: server.find("predict")[-1].frames)
    emulator.gates.release()
    await emulator.wait_for(lambda server: server.find("predict")[-1].cancelled)


async def test_a_server_that_does_not_confirm_holds_nobody_up(scripted, make_context, provider, ask, packets):
    async def predict(channel):
        await channel.send(packets.fragment("x"))
        await asyncio.Event().wait()

    scripted.channels["predict"] = predict
    context = make_context(scripted.url)
    stream = provider.stream(ask.request(), context)
    await until(stream, TextDelta)
    async with asyncio.timeout(30):
        await stream.aclose()
    await scripted.wait_for(lambda: scripted.sent("channelSend"))
    scripted.channels["predict"] = lambda channel: channel.send(packets.fragment("y"), packets.success())
    assert (await ask(context)).text == "y"
    assert scripted.connections == 5  # and the client is still the same


async def test_a_signal_that_cannot_be_sent_drops_the_connection(
    scripted, make_context, provider, ask, *, packets, monkeypatch
):
    async def predict(channel):
        await channel.send(packets.fragment("x"))
        await asyncio.Event().wait()

    scripted.channels["predict"] = predict
    context = make_context(scripted.url)
    stream = provider.stream(ask.request(), context)
    await until(stream, TextDelta)

    async def hang(_):
        await asyncio.Event().wait()

    monkeypatch.setattr("lmstudio.async_api.AsyncChannel.cancel", hang)
    async with asyncio.timeout(30):
        await stream.aclose()
    scripted.channels["predict"] = lambda channel: channel.send(packets.fragment("y"), packets.success())
    monkeypatch.undo()
    assert (await ask(context)).text == "y"
    assert scripted.connections == 10


async def test_an_answer_that_is_read_to_its_end_sends_no_cancel(scripted, make_context, ask):
    await ask(make_context(scripted.url))
    assert not scripted.sent("channelSend")


async def test_closing_the_connections_ends_a_running_answer(
    scripted, make_context, provider, ask, *, packets, resources
):
    async def predict(channel):
        await channel.send(packets.fragment("x"))
        await asyncio.Event().wait()

    scripted.channels["predict"] = predict
    stream = provider.stream(ask.request(), make_context(scripted.url))
    await until(stream, TextDelta)
    await resources.close()
    with pytest.raises(ProtocolError, match="dropped"):
        await anext(stream)
    await stream.aclose()
