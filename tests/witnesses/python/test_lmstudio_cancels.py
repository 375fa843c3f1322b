"""LM Studio's asynchronous Python client: cancels in every phase."""

import asyncio

import lmstudio as lms
import pytest

TEXT, THINKING, SLOW = "ibm/granite-4-micro", "qwen/qwen3-4b", "meta/llama-3.3-70b"


async def test_cancel_keeps_what_there_is_and_stops_the_work(emulator, client, consumed):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=5)
    stream = await model.respond_stream("[[words=1000]]")
    task = asyncio.create_task(consumed(stream))
    await gate.reached()
    await stream.cancel()
    _, result = await task
    assert result.stats.stop_reason == "userStopped"
    assert result.stats.predicted_tokens_count == 5
    record = emulator.find("predict")[0]
    assert (record.cancelled, record.tokens, record.frames) == (True, 5, [{"type": "cancel"}])
    assert emulator.instances[0].running == set()


async def test_cancel_during_the_prompt_takes_effect_after_it(emulator, client, consumed):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("prompt", after=1)
    stream = await model.respond_stream("Hi")
    task = asyncio.create_task(consumed(stream))
    await gate.reached()
    await stream.cancel()
    record = await emulator.wait_for(lambda e: e.find("predict")[0].frames and e.find("predict")[0])
    await model.get_info()  # time enough to stop, were it so
    assert record.state == "open"
    assert gate.waiting == 1
    gate.release()
    _, result = await task
    assert result.stats.stop_reason == "userStopped"
    assert record.tokens == 0


async def test_a_load_is_cancelled_by_the_channels_own_message(emulator, client):
    from lmstudio.json_api import GetOrLoadEndpoint

    types = client.llm._API_TYPES
    endpoint = GetOrLoadEndpoint(SLOW, 60, types.REQUEST_GET_OR_LOAD, types.MODEL_LOAD_CONFIG)
    gate = emulator.gates.hold("loading", after=20)
    async with client.llm._create_channel(endpoint) as channel:
        await gate.reached()
        await channel.cancel()
        with pytest.raises(lms.LMStudioServerError, match="Operation canceled"):
            await channel.wait_for_result()
    assert emulator.find("getOrLoad")[0].cancelled
    gate.release()
    assert (await client.llm.model(TEXT)).identifier == TEXT
    assert [instance.id for instance in emulator.instances] == [TEXT]


async def test_cancelling_the_task_of_a_load_sends_nothing(emulator, client):
    gate = emulator.gates.hold("loading", after=20)
    task = asyncio.create_task(client.llm.model(SLOW))
    await gate.reached()
    task.cancel()
    await asyncio.wait({task})
    gate.release()
    record = await emulator.wait_for(lambda e: e.find("getOrLoad")[0].finished and e.find("getOrLoad")[0])
    assert record.frames == []
    assert [instance.id for instance in emulator.instances] == [SLOW]


async def test_unloading_under_a_prediction_ends_it(emulator, client):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=2)
    task = asyncio.create_task(model.respond("Hi"))
    await gate.reached()
    emulator.unload(TEXT)
    assert (await task).stats.stop_reason == "modelUnloaded"


@pytest.mark.parametrize("phase", ["queued", "reasoning"])
async def test_cancel_before_the_answer(emulator, client, consumed, phase):
    model = await client.llm.model(THINKING)
    gate = emulator.gates.hold(phase, after=0 if phase == "queued" else 4)
    stream = await model.respond_stream("Hi")
    task = asyncio.create_task(consumed(stream))
    await gate.reached()
    await stream.cancel()
    pieces, result = await task
    assert not {"reasoningEndTag", "none"} & set(pieces)  # it drops what comes after its cancel
    assert result.stats.stop_reason == "userStopped"
    [record] = emulator.find("predict")
    assert record.cancelled
    assert result.stats.predicted_tokens_count == record.tokens == (0 if phase == "queued" else 5)


@pytest.mark.parametrize("way", ["break", "task", "timeout", "aclose"])
async def test_ways_that_cancel_nothing(emulator, client, way):
    model = await client.llm.model(TEXT)
    gate = emulator.gates.hold("answering", after=3)
    stream = await model.respond_stream("[[words=20]]")
    limit = asyncio.timeout(None)

    async def read() -> None:
        async with limit:
            async for _ in stream:
                if way in ("break", "aclose"):
                    break

    task = asyncio.create_task(read())
    await gate.reached()
    if way == "task":
        task.cancel()
    elif way == "timeout":
        limit.reschedule(0)
    await asyncio.wait({task})
    if way == "aclose":
        await stream.aclose()
    assert (task.cancelled(), limit.expired()) == (way == "task", way == "timeout")
    assert task.cancelled() or isinstance(task.exception(), TimeoutError) == limit.expired()
    gate.release()
    record = await emulator.wait_for(lambda e: e.find("predict")[0].finished and e.find("predict")[0])
    assert (record.frames, record.stop_reason) == ([], "eosFound")


async def test_a_client_that_closes_stops_its_work(emulator):
    gate = emulator.gates.hold("answering", after=3)
    async with lms.AsyncClient(emulator.address) as client:
        stream = await (await client.llm.model(TEXT)).respond_stream("[[words=1000]]")
        async for _ in stream:
            break
        await gate.reached()
    record = await emulator.wait_for(lambda e: e.find("predict")[0].cancelled and e.find("predict")[0])
    assert (record.reason, record.disconnected) == ("socket closed", True)
